"""A difference that the user knows and means: how it is written, what it fits, and what became of it in a run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ..errors import PairError
from .cause_ids import CAUSES
from .trace import Array

BY_FORMULA = "by its formula"
"""Taken out of the follower's step by what was proven of it, so that the rest is judged."""
NOT_JUDGED = "not judged"
NOT_SEEN = "not seen"
NOT_CONFIRMED = "not confirmed"
"""Found, but not proven: taking it out might hide something else, so it is not accepted."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "weight": ("gradient", "update"),
    "parameter": ("gradient", "update"),
    "gradient": ("gradient",),
    "update": ("update",),
    "buffer": ("state",),
    "output": ("forward",),
    "loss": ("loss",),
}
"""First word of a quantity -> the phases that it is compared in."""
EVERY_PHASE = ("forward", "loss", "gradient", "update", "state")
NEAR = 3
"""Names that an error suggests."""

Deltas = Mapping[tuple[str, str], Array]
"""(path on the follower, role of a slot, or "" for the value) -> what the reference's way adds to what a step left."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A proven difference between two sides at one place, which can be taken out of the follower's step.

    Attributes:
        torch, keras: the place.
        part: which difference it is, among those that `deltas` knows.
        deltas: (parts) -> what the follower's step lacks to what it would be with the reference's way in these parts.
    """

    torch: str | None
    keras: str | None
    part: str
    deltas: Callable[[Collection[str]], Deltas]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a difference that is accepted.

    Attributes:
        what: as the user wrote it.
        where: the places where it was found, as "torch (keras keras)".
        cause: its id; None for a quantity.
        how: `BY_FORMULA`, `NOT_JUDGED`, `NOT_SEEN` or `NOT_CONFIRMED`.
        not_judged: the quantities that are left out of the comparison because of it, each after its phase.
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
        text: as the user wrote it.
        cause: id of the cause; None for a quantity.
        name: the place of the cause, or the quantity; "" for every place.
        phases: that the quantity is compared in.
        whole: the name is a whole path of a side, and not the end of one.
    """

    text: str
    cause: str | None
    name: str = ""
    phases: tuple[str, ...] = EVERY_PHASE
    whole: bool = False

    @staticmethod
    def of(text: str) -> Acceptance:
        """From what the user wrote.

        Raises:
            PairError: the text is empty, or names a place of a cause that does not exist.
        """
        words = text.strip()
        cause, at, place = (part.strip() for part in words.partition("@"))
        if cause in CAUSES and bool(at) == bool(place):
            return Acceptance(text, cause, place)
        if not words or (at and not re.search(r"\s", cause) and cause.isidentifier()):
            raise PairError(
                "An accepted difference has no name that is known.",
                where=f"accept {text!r}",
                numbers=f"there is no cause {cause!r}" if cause else "the text is empty",
                todo=suggestion(cause, CAUSES) or "docs/causes.md lists every cause",
            )
        kind, _, name = words.partition(" ")
        if kind in KINDS and name:
            return Acceptance(text, None, name.strip(), KINDS[kind])
        return Acceptance(text, None, words)

    def fits(self, path: str | None) -> bool:
        """Whether the name is a path, the end of it, or a module around it."""
        if not path:
            return False
        if not self.name or path == self.name:
            return True
        mine, its = split(self.name), split(path)
        if self.whole:
            return its[: len(mine)] == mine
        return its[-len(mine) :] == mine

    def fits_place(self, torch: str | None, keras: str | None) -> bool:
        """Whether it accepts its cause at a place; of several names that are told together it must fit each."""
        if not self.name:
            return True
        sides = ([part.partition(" via ")[0] for part in of.split(", ")] for of in (torch, keras) if of)
        return any(all(self.fits(part) for part in names) for names in sides)


def split(path: str) -> list[str]:
    """The components of a path of either framework."""
    return re.split(r"[./]", path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """The names near to one that fits nothing, as a sentence; "" where none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=NEAR, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else ""
