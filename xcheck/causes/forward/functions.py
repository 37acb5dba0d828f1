"""Any function of one number with a factor and a number added: -log(x) and 1 - x, where one of them was meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES
from ...records.trace import Array
from ..prove import Trial, prove
from .activation import PLAIN, fewest_digits
from .linear import fits
from .one_computation import Local, Seen

READ_OFF = 3
"""The function, its factor and the number added."""


@dataclass(frozen=True, slots=True)
class Affine:
    """factor * function(x) + added."""

    function: str
    factor: float
    added: float

    def of(self, x: Array) -> Array:
        """What it gives."""
        return self.factor * PLAIN[self.function](x) + self.added

    @property
    def words(self) -> str:
        """As it is written."""
        of = "x" if self.function == "none" else f"{self.function} of x"
        times = {1.0: of, -1.0: f"-({of})" if " " in of else f"-{of}"}.get(self.factor, f"{self.factor:.9g} * ({of})")
        return times if not self.added else f"{self.added:.9g} + ({times})"


@isolated(list[Cause])
def order_causes(local: Local) -> list[Cause]:
    """A function and something that is added, such as a bias, one after the other and the other way round.

    Args:
        local: what both sides did.
    """
    sides = [local.of(side) for side in SIDES]
    if any(len(seen.given) != 1 or len(seen.constants) != 1 for seen in sides):
        return []
    (x, b), (y, c) = ((seen.x, next(iter(seen.constants.values()))) for seen in sides)
    if not fits(b, x) or not fits(c, y) or not local.agree(np.sort(b, axis=None), np.sort(c, axis=None)):
        return []
    names = (sides[0].call.name, sides[1].call.name)
    with np.errstate(all="ignore"):
        for name, f in PLAIN.items():
            inside, outside = "before", "behind"
            for way, made, there, again in (
                (inside, f(x + b), f(y) + c, f(y + c)),
                (outside, f(x) + b, f(y + c), f(y) + c),
            ):
                if local.agree(sides[0].value, made) and local.agree(sides[1].value, there):
                    other = outside if way == inside else inside
                    said = f"what is added stands {way} the function ({name}) in torch, and {other} it in keras"
                    fix = f"keras: add it {way} the function, or torch: {other} it"
                    cause = Cause("call_order", "forward", *names, said, {"function": name}, fix=fix)
                    trial = Trial(local.error, local.gap(again, local.target("keras")), local.allowed, y.size)
                    return [prove(cause, [trial])]
    return []


@isolated(list[Cause])
def function_causes(local: Local) -> list[Cause]:
    """Why two functions of the same numbers differ; none where either side is no function of one number.

    Args:
        local: what both sides did.
    """
    with np.errstate(all="ignore"):
        torch, keras = (list(_fitting(local, local.of(side))) for side in SIDES)
        if not torch or not keras or {f.function for f in torch} & {f.function for f in keras}:
            return []  # of one function the factor and what is added say more
        after = local.gap(torch[0].of(local.keras.x), local.target("keras"))
    told = torch[0].words, keras[0].words
    cause = Cause(
        "other_function",
        "forward",
        local.torch.call.name,
        local.keras.call.name,
        f"of the same numbers x it is {told[0]} in torch and {told[1]} in keras",
        {"torch": told[0], "keras": told[1]},
        fix=f"keras: {told[0]}, or torch: {told[1]}",
    )
    return [prove(cause, [Trial(local.error, after, local.allowed, local.keras.value.size - READ_OFF)])]


def _fitting(local: Local, seen: Seen) -> Iterator[Affine]:
    x, y = seen.x, seen.value
    if (
        len(seen.given) != 1
        or x.shape != y.shape
        or x.dtype.kind != "f"
        or not np.isfinite(y).all()
        or y.size < READ_OFF
    ):
        return
    for name, function in PLAIN.items():
        made = function(x)
        if not np.isfinite(made).all() or np.ptp(made) == 0:
            continue
        centred = made - made.mean()
        factor = fewest_digits(float((centred * y).sum() / (centred * centred).sum()), 1e-12)
        found = Affine(name, factor, fewest_digits(float((y - factor * made).mean()), 1e-12))
        found = found if abs(found.added) > local.allowed * np.abs(y).max() else Affine(name, factor, 0.0)
        if factor and local.agree(y, found.of(x)):
            yield found
