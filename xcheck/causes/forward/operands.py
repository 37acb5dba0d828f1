"""The same function of other tensors, which both sides have, as parts in another order; or another of the same two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...numerics.align.families import family_of
from ...numerics.align.orders import closest
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
BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "multiply": np.multiply,
    "subtract": np.subtract,
    "divide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
"""By the families of calls."""

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


@isolated(list[Cause])
def one_operand_causes(local: Local) -> list[Cause]:
    """Both sides take the same function of two tensors, of which one is the same and the other is not.

    Not where both compute the other one: then their difference is made before.

    Args:
        local: what both sides did.
    """
    family = family_of(local.torch.inner.kind)
    sides = [_operands(seen) for seen in (local.torch, local.keras)]
    if family not in BINARY or family_of(local.keras.inner.kind) != family or not all(sides):
        return []
    (torch, made_there), (keras, made_here) = (tuple(zip(*side, strict=True)) for side in sides)
    for at in (0, 1):
        same = _in_order(local, torch[at], keras[at])
        other = _in_order(local, torch[1 - at], keras[1 - at], alike=False)
        if same is None or other is None or (made_there[1 - at] and made_here[1 - at]):
            continue
        with np.errstate(all="ignore"):
            given = (keras[at], other) if at == 0 else (other, keras[at])
            again = BINARY[family](*given)
        after = local.gap(again, local.target("keras")) if again.shape == local.keras.value.shape else np.inf
        told = [_size(array) for array in (torch[1 - at], keras[1 - at])]
        if after > local.allowed:
            continue
        words = f"of what {family} takes, the {('second', 'first')[at]} is {told[0]} in torch and {told[1]} in keras"
        words += f", up to {np.abs(other - keras[1 - at]).max():.3g} apart" if other.size > 1 else ""
        fix = f"keras: {family} with {told[0]} there, or torch: with {told[1]}"
        id = "other_operand" if made_there[1 - at] or made_here[1 - at] else "other_constant"
        if np.isin(other, (0.0, 1.0)).all() and np.array_equal(keras[1 - at], 1 - other):
            id, words = "mask_polarity", f"{family} takes a mask, and what it lets through in torch it blocks in keras"
            fix = "keras: 1 - mask, or torch: 1 - mask"
        return [_cause(local, id, words, {"torch": told[0], "keras": told[1]}, after, fix)]
    return []


def _operands(seen: Seen) -> list[tuple[Array, bool]]:
    """The two that the innermost call took, and whether each was computed from what went in; none if not two."""
    call = seen.inner
    numbers = [
        np.asarray(v, np.float64)
        for v in call.settings.values()
        if isinstance(v, int | float) and not isinstance(v, bool)
    ]
    arrays = [*call.inputs.values(), *numbers]
    if seen.idle or len(arrays) != 2 or any(a.dtype.kind not in "fiu" for a in arrays) or call.parameters:
        return []
    known = [*seen.given.values(), *seen.constants.values(), *numbers]
    return [
        (a, not any(a.size == k.size and np.array_equal(a.reshape(-1), k.reshape(-1)) for k in known)) for a in arrays
    ]


def _in_order(local: Local, torch: Array, keras: Array, *, alike: bool = True) -> Array | None:
    """PyTorch's operand in the axes of Keras; None where they are not the same, or (not `alike`) where they are."""
    order = local.order
    if torch.size == 1:
        moved = torch.reshape(())
    elif torch.ndim == len(order.axes) and not order.after and len(order.target) == torch.ndim:
        moved = torch.transpose(order.axes)
    elif torch.size == keras.size and (found := closest(torch, keras)) is not None:
        moved = found.apply(torch)
    else:
        return None
    same = moved.size == keras.size and local.agree(keras, moved.reshape(keras.shape))
    return moved if same == alike else None


def _size(array: Array) -> str:
    if array.size == 1:
        return f"{float(array.reshape(-1)[0]):.12g}"
    each = ", one for each example" if array.ndim and array.size == array.shape[0] else ""
    return f"{array.size} numbers from {float(array.min()):.6g} to {float(array.max()):.6g}{each}"


def _of_others(local: Local, name: str, other: int, after: float) -> Cause:
    kinds = [" and ".join(_kind(call) for call in seen.given) for seen in (local.torch, local.keras)]
    part = any(_kind(call) in MANY for seen in (local.torch, local.keras) for call in seen.given)
    summary = f"the same function, {name}, is taken of other tensors: of what comes out of {kinds[0]} in torch and of "
    summary += f"{kinds[1]} in keras" + (", and not of the same part" if part else "")
    fix = "give it the same tensors on both sides"
    if part:
        fix = (
            "take the parts in one order on both sides, as that of gates that one kernel makes, or reorder its columns"
        )
    evidence = {"torch": list(local.torch.given), "keras": list(local.keras.given), "other_operands": other}
    return _cause(local, "other_part" if part else "other_operand", summary, evidence, after, fix)


def _another(local: Local, torch: str, keras: str, after: float) -> Cause:
    summary = f"of the same two tensors it is the {torch} in torch and the {keras} in keras"
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
