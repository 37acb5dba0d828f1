"""The same numbers in another order: axes flattened or joined in another order before a layer that mixes them."""

from __future__ import annotations

import re

import numpy as np

from ...matching import MatchPlan
from ...records.result import Cause
from ...records.sides import SIDES
from ...records.trace import Array
from ..prove import Trial, prove
from .one_computation import Local, Seen


def reordered(local: Local, array: Array, other: Array) -> bool:
    """Whether two arrays hold the same numbers, and not in the same order."""
    if array.shape != other.shape or local.agree(array, other):
        return False
    return local.agree(np.sort(array.reshape(-1)), np.sort(other.reshape(-1)))


def permuted(local: Local, what: str, torch: Array, keras: Array, after: float) -> Cause:
    """The cause where a layer is given what both sides have in another order; confirmed by giving it the other's.

    Args:
        local: what both sides did.
        what: the layer in words.
        torch, keras: what goes in, in one layout.
        after: how far apart the sides are once what goes into the one goes into the other.
    """
    order = _columns(torch, keras)
    told = _told(local.torch), _told(local.keras)
    said = f": {told[0]} in torch, {told[1]} in keras" if all(told) else ""
    cause = Cause(
        id="permuted_axes",
        phase="forward",
        torch=local.torch.call.name,
        keras=local.keras.call.name,
        summary=f"{what}: the inputs have the same values in a different order{said}{_runs(order)}",
        fix=_fix(local),
    )
    return prove(cause, [Trial(local.error, after, local.allowed, local.torch.value.size)])


def packed_outputs(plan: MatchPlan) -> list[Cause]:
    """The cause where dense layers hold their outputs in different orders; confirmed by the order that agrees.

    Args:
        plan: which has them in the same order.
    """
    if plan.packed is None:
        return []
    matches, layers, orders = plan.packed.matches, plan.packed.layers, plan.packed.orders
    lines = ", ".join(f'"{m.name("torch")}": ("{m.name("keras")}", "{m.layout.name}")' for m in matches)
    left, right = (re.findall(r"\(.*?\)", half)[0] for half in matches[0].layout.name.split(" -> "))
    others = len({m.torch.rpartition(".")[0] for m in matches}) - 1
    more = f" (and of {others} more layer{'s' * (others > 1)})" if others else ""
    cause = Cause(
        id="permuted_axes",
        phase="forward",
        torch=layers["torch"],
        keras=layers["keras"],
        summary=f"the outputs of a layer are taken apart in different orders: those of {layers['torch']} as {left} in "
        f"torch, those of {layers['keras']} as {right} in keras{more}",
        evidence={side: list(orders[side]) for side in SIDES},
        fix=f"keras: take the outputs of {layers['keras']} apart as torch does, by a reshape to "
        f"(..., {', '.join(map(str, orders['torch']))}), or permute the weights when you load them: "
        f"weight_map={{{lines}}}",
    )
    (before, allowed, numbers), (after, _, _) = plan.packed.without, plan.packed.with_
    return [prove(cause, [Trial(before, after, allowed, numbers)])]


def _told(seen: Seen) -> str:
    """How it got its last shape."""
    earlier = [(name, shape) for name, shape in seen.views if len(shape) > seen.x.ndim]
    return f"{earlier[-1][1]} of {earlier[-1][0]} becomes {seen.x.shape}" if earlier else ""


def _columns(torch: Array, keras: Array) -> list[int] | None:
    """For each place along the last axis of keras the one in torch with the same numbers; None where that fails."""
    n = torch.shape[-1]
    mine, theirs = (np.asarray(a).reshape(-1, n).T for a in (torch, keras))
    if n > 4096:
        return None
    found = [int(np.abs(mine - column).max(axis=1).argmin()) for column in theirs]
    scale = float(np.abs(mine).max()) or 1.0
    same = all(np.abs(mine[i] - column).max() <= 1e-9 * scale for i, column in zip(found, theirs, strict=True))
    return found if same and len(set(found)) == n else None


def _runs(order: list[int] | None) -> str:
    """In words, where it is blocks that change places."""
    if order is None:
        return ""
    breaks = [i for i in range(1, len(order)) if order[i] != order[i - 1] + 1]
    if not breaks or len(breaks) > 7:
        return ""
    edges = zip([0, *breaks], [*breaks, len(order)], strict=True)
    return "; keras has torch's " + ", ".join(f"{order[a]}:{order[b - 1] + 1}" for a, b in edges)


def _fix(local: Local) -> str:
    torch, keras = (
        [shape for _, shape in seen.views if len(shape) > seen.x.ndim] for seen in (local.torch, local.keras)
    )
    if torch and keras and len(torch[-1]) == len(keras[-1]) == 4:
        fix = "keras: keras.layers.Permute((3, 1, 2)) before it is flattened, or torch: x.permute(0, 2, 3, 1)"
        channels = torch[-1][1]
        if channels != keras[-1][3]:
            return fix
        return f'{fix}; if the port permutes the rows when it loads them: the layout "o (c={channels} p) -> (p c) o"'
    return "join the parts in one order on both sides, or permute the rows of the kernel in the weight map"
