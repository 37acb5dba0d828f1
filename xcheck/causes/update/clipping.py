"""How a gradient is clipped, in NumPy; and which clipping it was, from what went in and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...records.trace import Array, Arrays
from ..recomputed import REPRODUCED

Kind = Literal["none", "value", "each", "together"]

ADDED = 1e-6
"""PyTorch's `clip_grad_norm_` adds it to the norm that it divides by."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One way to clip.

    Attributes:
        kind: nothing, each element, each gradient to a norm, or all gradients together to a norm.
        limit: of the element or the norm.
        added: to the norm, before it is divided by.
        tied: a tied weight counts in the norm as often as it has names.
        again: a tied weight is also scaled as often.
        lookups: the norm of a table is that of the list of its rows, one for each lookup, not of their sum.
    """

    kind: Kind = "none"
    limit: float = math.inf
    added: float = 0.0
    tied: bool = False
    again: bool = False
    lookups: bool = False

    def of(self, gradients: Arrays, counts: Mapping[str, int], squares: Arrays) -> dict[str, Array]:
        """The gradients after clipping.

        Args:
            gradients: by path, each storage once.
            counts: path -> how many names a tied weight has.
            squares: path of a table -> sum of the squares of its rows, one for each lookup.
        """
        squares = squares if self.lookups else {}
        if self.kind == "none":
            return dict(gradients)
        if self.kind == "value":
            return {path: np.clip(g, -self.limit, self.limit) for path, g in gradients.items()}
        if self.kind == "each":
            return {path: g * self._factor(_norm({path: g}, {}, squares)) for path, g in gradients.items()}
        factor = self._factor(_norm(gradients, counts if self.tied else {}, squares))
        return {path: g * factor ** (counts.get(path, 1) if self.again else 1) for path, g in gradients.items()}

    def _factor(self, norm: float) -> float:
        return min(1.0, self.limit / (norm + self.added)) if norm else 1.0

    @property
    def words(self) -> str:
        """What it does, to follow the name of a side."""
        if self.kind == "none":
            return "does not clip"
        if self.kind == "value":
            return f"clips each element at {self.limit!r}"
        which = "each gradient by itself" if self.kind == "each" else "all gradients together"
        told = f"clips {which} to a norm of {self.limit!r}"
        if self.added:
            told += f", with {self.added!r} added to the norm"
        if self.tied:
            told += ", in which a tied weight counts as often as it has names"
        if self.lookups:
            told += ", in which a row of a table counts once for each lookup"
        return told

    @property
    def in_torch(self) -> str:
        """The call of PyTorch between `backward` and `step`; "" if it has none."""
        if self.kind == "value":
            return f"torch.nn.utils.clip_grad_value_(model.parameters(), {self.limit!r})"
        if self.kind == "together" and self.added and not self.tied and not self.lookups:
            return f"torch.nn.utils.clip_grad_norm_(model.parameters(), {self.limit!r})"
        return ""

    @property
    def formula(self) -> str:
        """What to write where no class or function does it."""
        if self.kind == "none":
            return "no clipping"
        if self.kind == "value":
            return f"clip each element at {self.limit!r}"
        norm = f"norm + {self.added!r}" if self.added else "norm"
        which = "each gradient by its own" if self.kind == "each" else "all gradients by their common"
        return f"multiply {which} factor min(1, {self.limit!r} / ({norm}))"


NO_CLIP = Clip()


def _norm(gradients: Arrays, counts: Mapping[str, int], squares: Arrays) -> float:
    sums = {path: float(squares[path].sum() if path in squares else np.vdot(g, g)) for path, g in gradients.items()}
    return math.sqrt(sum(counts.get(path, 1) * each for path, each in sums.items()))


def declared_clip(settings: Mapping[str, Any]) -> Clip:
    """What an optimizer says it does.

    Args:
        settings: by the names of Keras, or `max_norm` of `xcheck.optim.keras`.
    """
    forms = {
        "clipvalue": Clip("value"),
        "clipnorm": Clip("each"),
        "global_clipnorm": Clip("together"),
        "max_norm": Clip("together", added=ADDED),
    }
    for name, form in forms.items():
        limit = settings.get(name)
        if isinstance(limit, int | float) and limit > 0:
            return replace(form, limit=float(limit))
    return NO_CLIP


def told_clips(mine: Clip, other: Clip) -> list[Clip]:
    """What a side may do by what the sides say: what it says itself, nothing, what the other says.

    Args:
        mine, other: what the sides say.
    """
    return list(dict.fromkeys((mine, NO_CLIP, other)))


def possible_clips(
    mine: Clip, other: Clip, gradients: Arrays, effective: Arrays, counts: Mapping[str, int], squares: Arrays
) -> Iterator[Clip]:
    """What a side may do, the likelier first: what is told, the same limits otherwise used, limits with few digits.

    Args:
        mine, other: what the sides say.
        gradients: before clipping.
        effective: after it, as far as it can be read off.
        counts: path -> how many names a tied weight has.
        squares: path of a table -> sum of the squares of its rows, one for each lookup.
    """
    yield from told_clips(mine, other)
    for limit in dict.fromkeys(clip.limit for clip in (mine, other) if clip.kind != "none"):
        forms = tuple(_forms(limit))
        yield from forms
        yield from (replace(form, lookups=True) for form in forms if squares and form.kind != "value")
    for clip in fitted_clips(gradients, effective, counts, squares):
        short = rounded(clip.limit)
        if short is not None:
            yield replace(clip, limit=short)


def _forms(limit: float) -> Iterator[Clip]:
    for added in (0.0, ADDED):
        yield Clip("together", limit, added)
        yield Clip("each", limit, added)
        yield Clip("together", limit, added, tied=True, again=True)
        yield Clip("together", limit, added, tied=True)
    yield Clip("value", limit)


def fitted_clips(gradients: Arrays, effective: Arrays, counts: Mapping[str, int], squares: Arrays) -> Iterator[Clip]:
    """Every form with the limit that would give what came out; the arguments are those of `possible_clips`.

    The factor is read off the largest gradient: the smallest ones may be what rounding makes of zero.
    """
    factors = {path: _ratio(effective[path], g) for path, g in gradients.items() if path in effective and g.any()}
    if not factors:
        return
    found: list[Clip] = []
    plain = [path for path in factors if path not in counts]
    sizes = {path: _norm({path: gradients[path]}, {}, {}) for path in factors}
    factor = factors[max(plain or factors, key=sizes.__getitem__)]
    for tied, lookups in ((False, False), (True, False), (False, True)):
        if lookups and not squares:
            continue
        norm = _norm(gradients, counts if tied else {}, squares if lookups else {})
        for added in (0.0, ADDED):
            for again in (False, True) if tied else (False,):
                found.append(Clip("together", factor * (norm + added), added, tied, again, lookups))
    largest = max(factors, key=sizes.__getitem__)
    found += [Clip("each", factors[largest] * (sizes[largest] + added), added) for added in (0.0, ADDED)]
    found.append(Clip("value", max(float(np.abs(g).max(initial=0)) for g in effective.values())))
    yield from (clip for clip in found if 0 < clip.limit < math.inf)


def _ratio(after: Array, before: Array) -> float:
    return float(np.vdot(after, before) / np.vdot(before, before))


def rounded(value: float, digits: int = 4) -> float | None:
    """A number as somebody may have written it, where it is one; None where it has more digits than a few."""
    short = float(f"{value:.{digits - 1}e}") if math.isfinite(value) else value
    return short if abs(value - short) <= REPRODUCED * abs(short) else None
