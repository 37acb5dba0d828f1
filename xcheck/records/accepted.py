"""Differences that the user accepts: their syntax, the places they match, and their outcome in a run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ..errors import PairError
from .cause_ids import CAUSES
from .trace import Array

BY_FORMULA = "by its formula"
"""Removed from the follower's step by its proven formula, so that everything else is still judged."""
NOT_JUDGED = "not judged"
NOT_SEEN = "not seen"
NOT_CONFIRMED = "not confirmed"
"""Found, but not proven: removing it might hide another difference, so it is not accepted."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "weight": ("gradient", "update"),
    "parameter": ("gradient", "update"),
    "gradient": ("gradient",),
    "update": ("update",),
    "buffer": ("state",),
    "output": ("forward",),
    "loss": ("loss",),
}
"""First word of a quantity -> the phases in which it is compared."""
EVERY_PHASE = ("forward", "loss", "gradient", "update", "state")
NEAR = 3
"""Number of names that an error suggests."""

Deltas = Mapping[tuple[str, str], Array]
"""(follower path, slot role, or "" for the value) -> array to add to the step's result to get the reference's way."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A proven difference between two sides at one place, which can be removed from the follower's step.

    Attributes:
        torch, keras: the place.
        part: which of the differences of `deltas` it is.
        deltas: (parts) -> arrays to add to the follower's step so that these parts follow the reference's way.
    """

    torch: str | None
    keras: str | None
    part: str
    deltas: Callable[[Collection[str]], Deltas]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The outcome of an accepted difference.

    Attributes:
        what: the entry as the user wrote it.
        where: the places where it was found, as "torch (keras keras)".
        cause: its id; None for a quantity.
        how: `BY_FORMULA`, `NOT_JUDGED`, `NOT_SEEN` or `NOT_CONFIRMED`.
        not_judged: the quantities left out of the comparison because of it, each with its phase first.
    """

    what: str
    where: tuple[str, ...] = ()
    cause: str | None = None
    how: str = NOT_SEEN
    not_judged: tuple[str, ...] = ()

    @property
    def seen(self) -> bool:
        """Whether it was found and accepted."""
        return self.how in (BY_FORMULA, NOT_JUDGED)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One entry of `accept`.

    Attributes:
        text: the entry as the user wrote it.
        cause: id of the cause; None for a quantity.
        name: the place of the cause, or the quantity; "" for every place.
        phases: the phases in which the quantity is compared.
        whole: the name is the whole path of a side, not the end of one.
    """

    text: str
    cause: str | None
    name: str = ""
    phases: tuple[str, ...] = EVERY_PHASE
    whole: bool = False

    @staticmethod
    def of(text: str) -> Acceptance:
        """Parse an entry that the user wrote.

        Raises:
            PairError: the text is empty, or names a place of an unknown cause.
        """
        words = text.strip()
        cause, at, place = (part.strip() for part in words.partition("@"))
        if cause in CAUSES and bool(at) == bool(place):
            return Acceptance(text, cause, place)
        if not words or (at and not re.search(r"\s", cause) and cause.isidentifier()):
            raise PairError(
                "An entry of `accept` is not a known cause or quantity.",
                where=f"accept {text!r}",
                numbers=f"{cause!r} is not the id of a cause" if cause else "the text is empty",
                todo=suggestion(cause, CAUSES) or "docs/causes.md lists every cause",
            )
        kind, _, name = words.partition(" ")
        if kind in KINDS and name:
            return Acceptance(text, None, name.strip(), KINDS[kind])
        return Acceptance(text, None, words)

    def fits(self, path: str | None) -> bool:
        """Whether the name is this path, the end of it, or a module that contains it."""
        if not path:
            return False
        if not self.name or path == self.name:
            return True
        wanted, actual = split(self.name), split(path)
        if self.whole:
            return actual[: len(wanted)] == wanted
        return actual[-len(wanted) :] == wanted

    def fits_place(self, torch: str | None, keras: str | None) -> bool:
        """Whether it accepts its cause at a place; it must fit every path where a place lists several."""
        if not self.name:
            return True
        sides = ([part.partition(" via ")[0] for part in place.split(", ")] for place in (torch, keras) if place)
        return any(all(self.fits(part) for part in parts) for parts in sides)


def split(path: str) -> list[str]:
    """The components of a path of either framework."""
    return re.split(r"[./]", path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names nearest to an unknown one; "" if none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=NEAR, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else ""
