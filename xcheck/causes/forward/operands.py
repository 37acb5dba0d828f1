"""The same function of other tensors, which both sides have, as parts in another order; or another of the same two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array
from ..prove import Trial, prove
from .activation import PLAIN
from .one_computation import Local, Seen

OF_ONE: Mapping[str, Callable[[Array], Array]] = {name: f for name, f in PLAIN.items() if name != "none"}
OF_TWO: Mapping[str, Callable[[Array, Array], Array]] = {
    "sum": np.add,
    "product": np.multiply,
    "difference": np.subtract,
    "quotient": np.divide,
}
MANY = ("chunk", "split", "unbind", "unstack", "getitem")
"""Functions of which one takes a part."""


@isolated(list[Cause])
def operand_causes(local: Local) -> list[Cause]:
    """Why two results differ: the same function of other tensors, or another function of the same two.

    Args:
        local: what both sides did.
    """
    sides = local.torch, local.keras
    if any(seen.idle or seen.constants or any(a.dtype.kind != "f" for a in seen.given.values()) for seen in sides):
        return []
    if len(local.torch.given) != len(local.keras.given):
        return []
    other = _other(local)
    torch, keras = (_functions(local, seen) for seen in sides)
    common = next((name for name in torch if name in keras), None)
    if other and common is not None:
        return [_of_others(local, common, other, max(torch[common], keras[common]))]
    if not other and torch and keras and common is None and len(local.torch.given) == 2:
        (mine, gap), (theirs, others) = next(iter(torch.items())), next(iter(keras.items()))
        return [_another(local, mine, theirs, max(gap, others))]
    return []


def _of_others(local: Local, name: str, other: int, after: float) -> Cause:
    kinds = [" and ".join(_kind(call) for call in seen.given) for seen in (local.torch, local.keras)]
    part = any(_kind(call) in MANY for seen in (local.torch, local.keras) for call in seen.given)
    summary = f"the {name} is of different tensors: of the output of {kinds[0]} in torch and of that of "
    summary += f"{kinds[1]} in keras" + (", and of a different part" if part else "")
    fix = "use the same tensors on both sides"
    if part:
        fix = "use the same order of the parts (such as gates) on both sides, or reorder the columns of the kernel"
    evidence = {"torch": list(local.torch.given), "keras": list(local.keras.given), "other_operands": other}
    return _cause(local, "other_part" if part else "other_operand", summary, evidence, after, fix)


def _another(local: Local, torch: str, keras: str, after: float) -> Cause:
    summary = f"the same two tensors are combined by {torch} in torch and by {keras} in keras"
    return _cause(local, "other_function", summary, {"torch": torch, "keras": keras}, after, f"keras: the {torch}")


def _cause(local: Local, name: str, summary: str, evidence: Mapping[str, Any], after: float, fix: str) -> Cause:
    torch, keras = local.torch.call.name, local.keras.call.name
    cause = Cause(name, "forward", torch, keras, summary, evidence, fix=fix)
    return prove(cause, [Trial(local.error, after, local.allowed, local.torch.value.size)])


def _functions(local: Local, seen: Seen) -> dict[str, float]:
    """The functions that give the value of a side from what went in there, and how far what they give is from it."""
    given = list(seen.given.values())
    made: list[tuple[str, Array]] = []
    with np.errstate(all="ignore"):
        if len(given) == 1:
            made = [(name, one(given[0])) for name, one in OF_ONE.items()]
        elif len(given) == 2 and given[0].shape == given[1].shape:
            made = [(name, two(a, b)) for name, two in OF_TWO.items() for a, b in (given[::-1], given)]
    fitting = ((name, array) for name, array in made if array.shape == seen.value.shape and np.isfinite(array).all())
    gaps = ((name, local.gap(seen.value, array)) for name, array in fitting)
    return {name: gap for name, gap in gaps if gap <= local.allowed}


def _other(local: Local) -> int:
    """How many of what goes in on the one side do not go in on the other."""
    torch, keras = (list(seen.given.values()) for seen in (local.torch, local.keras))
    left = list(keras)
    for a in torch:
        same = next((i for i, b in enumerate(left) if _same(local, a, b)), None)
        if same is not None:
            del left[same]
    return len(left)


def _same(local: Local, a: Array, b: Array) -> bool:
    return a.size == b.size and local.agree(np.sort(a, axis=None), np.sort(b, axis=None))


def _kind(call: str) -> str:
    """The function or the layer that a call is of, from its name."""
    return call.rpartition(": ")[2].partition(" (call")[0]
