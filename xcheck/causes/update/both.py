"""The recipes of both sides, and one thing in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...matching import MatchPlan
from ...records.sides import SideName
from ..recomputed import REPRODUCED
from .calls import call, either, like_the_other
from .recipe import Recipe


@dataclass(frozen=True)
class Both:
    """The recipes of both sides.

    Attributes:
        plan: of the run.
        name: of the optimizer.
        torch, keras: the recipes.
        t: step from 1.
        names: path of a tied parameter -> how many names it has.
    """

    plan: MatchPlan
    name: str
    torch: Recipe
    keras: Recipe
    t: int
    names: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, side: SideName) -> Recipe:
        """The recipe of one side."""
        return self.torch if side == "torch" else self.keras

    def alike(self) -> str:
        """The calls that make the optimizer of one side as that of the other; "" where no class is."""
        torch, keras = self.torch.said, self.keras.said
        return either(call("torch", like_the_other(torch, keras)), call("keras", like_the_other(keras, torch)))

    def settled(self) -> Both:
        """With one rate for each decay: where several give what was observed, one that the other side has too.

        None where several do on both sides: a weight of zero does not tell whether it decays.
        """
        torch, keras = dict(self.torch.decay), dict(self.keras.decay)
        for match in self.plan.parameters:
            mine, theirs = torch.get(match.torch, ()), keras.get(match.keras, ())
            common = tuple(rate for rate in mine if any(same(rate, other) for other in theirs))
            open_ = len(common) > 1
            torch |= dict.fromkeys(match.torch_piece.paths, () if open_ else common or mine[:1])
            keras |= dict.fromkeys(match.keras_piece.paths, () if open_ else common or theirs[:1])
        return replace(self, torch=replace(self.torch, decay=torch), keras=replace(self.keras, decay=keras))


@dataclass(frozen=True)
class Difference:
    """One thing in which two recipes differ.

    Attributes:
        id: of the cause.
        summary, fix: of the cause.
        swapped: the follower's recipe -> the same with the reference's part of it.
        torch, keras: what it is about; "" for the optimizer.
        evidence: of the cause.
        solved: it is a number that neither side says, solved from the updates that it explains.
    """

    id: str
    summary: str
    fix: str
    swapped: Callable[[Recipe], Recipe]
    torch: str = ""
    keras: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    solved: bool = False


def same(one: float, two: float) -> bool:
    """Whether two numbers are one, up to what rounding leaves of them.

    Args:
        one, two: settings, solved or said.
    """
    return abs(one - two) <= REPRODUCED * abs(one)
