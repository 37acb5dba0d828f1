"""The same function of other tensors, which both sides have, as parts in another order; or another of the same two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...numerics.align.families import family_of
from ...numerics.align.orders import closest
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array
from ..prove import Trial, prove
from .activation import PLAIN, fewest_digits
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

    Only where the other one is written down on one side at least, as a number or a table, or where both are made of a
    weight and are a number apart: what both compute of their inputs differs before.

    Args:
        local: what both sides did.
    """
    family = family_of(local.torch.inner.kind)
    torch, keras = (_operands(seen) for seen in (local.torch, local.keras))
    if family not in BINARY or family_of(local.keras.inner.kind) != family or not torch or not keras:
        return []
    for at in (0, 1):
        mine, theirs = torch[1 - at], keras[1 - at]
        other = _in_order(local, mine, theirs, alike=False)
        if _in_order(local, torch[at], keras[at]) is None or other is None or keras[at].size < 2:
            continue
        with np.errstate(all="ignore"):
            again = BINARY[family](*((keras[at], other) if at == 0 else (other, keras[at])))
        after = local.gap(again, local.target("keras")) if again.shape == local.keras.value.shape else np.inf
        if after > local.allowed:
            continue
        if _written(local.torch, mine) or _written(local.keras, theirs):
            told = _told(local, family, at, other, theirs)
        else:
            told = (
                _relation(other, theirs) if all(map(_of_weights, (local.torch, local.keras), (mine, theirs))) else None
            )
        if told is not None:
            return [_cause(local, told[0], told[1], {"torch": _size(mine), "keras": _size(theirs)}, after, told[2])]
    return []


def _told(local: Local, family: str, at: int, torch: Array, keras: Array) -> tuple[str, str, str]:
    """Id, summary and fix for an operand that is written down."""
    if np.isin(torch, (0.0, 1.0)).all() and np.array_equal(keras, 1 - torch):
        said = f"{family} takes a mask, and what it lets through in torch it blocks in keras"
        return "mask_polarity", said, "keras: 1 - mask, or torch: 1 - mask"
    told = _size(torch), _size(keras)
    said = f"of what {family} takes, the {('second', 'first')[at]} is {told[0]} in torch and {told[1]} in keras"
    said += f", up to {np.abs(torch - keras).max():.3g} apart" if torch.size > 1 or keras.size > 1 else ""
    both = _written(local.torch, torch) and _written(local.keras, keras)
    fix = f"keras: {family} with {told[0]} there, or torch: with {told[1]}"
    return "other_constant" if both else "other_operand", said, fix


def _relation(torch: Array, keras: Array) -> tuple[str, str, str] | None:
    """Id, summary and fix where two that are made of weights are a number apart; None where they are not."""
    if torch.shape != keras.shape:
        return None
    with np.errstate(all="ignore"):
        ways = (
            ("constant_offset", torch - keras, "the weight of torch is that of keras plus {}", "add {} to the weight"),
            ("constant_factor", torch / keras, "the weight of torch is {} times that of keras", "multiply it by {}"),
            ("epsilon", torch**2 - keras**2, "under the root torch adds {} more than keras", "add {} under the root"),
        )
    for id, apart, said, fix in ways:
        number = float(apart.reshape(-1)[0])
        if apart.size > 2 and np.abs(apart - number).max() <= 1e-9 * np.abs(apart).max():
            told = f"{fewest_digits(number, 1e-9):.9g}"
            return id, said.format(told), f"keras: {fix.format(told)}"
    return None


def _operands(seen: Seen) -> list[Array]:
    """The two that the innermost call took; none if not two."""
    call = seen.inner
    arrays = [*call.inputs.values(), *_numbers(call)]
    plain = len(arrays) == 2 and all(a.dtype.kind in "fiu" for a in arrays)
    return arrays if plain and not seen.idle and not call.parameters else []


def _numbers(call: Call) -> list[Array]:
    settings = (v for v in call.settings.values() if isinstance(v, int | float) and not isinstance(v, bool))
    return [np.asarray(value, np.float64) for value in settings]


def _written(seen: Seen, array: Array) -> bool:
    """Whether an operand is a number or a table that somebody wrote down, and not computed of inputs or weights."""
    tables = [a for name, a in seen.constants.items() if not seen.made_of.get(name) and np.ptp(a) > 0]
    return any(_alike(array, a) for a in (*_numbers(seen.inner), *tables))


def _of_weights(seen: Seen, array: Array) -> bool:
    return any(_alike(array, a) for name, a in seen.constants.items() if seen.made_of.get(name))


def _alike(array: Array, other: Array) -> bool:
    return array.size == other.size and np.array_equal(array.reshape(-1), other.reshape(-1))


def _in_order(local: Local, torch: Array, keras: Array, *, alike: bool = True) -> Array | None:
    """PyTorch's operand in the axes of Keras; None where they are not the same, or (not `alike`) where they are."""
    order = local.order
    moved: Array = torch.reshape(-1)
    if torch.size == 1:
        moved = moved.reshape(())
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
