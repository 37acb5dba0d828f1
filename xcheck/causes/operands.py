"""The same function of other tensors, which both sides have, as parts in another order; or another of the same two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..records.trace import Array
from ..result import Cause
from .activation import PLAIN
from .local import Local, Seen

OF_ONE: Mapping[str, Callable[[Array], Array]] = {name: f for name, f in PLAIN.items() if name != "none"}
OF_TWO: Mapping[str, Callable[[Array, Array], Array]] = {
    "sum": np.add,
    "product": np.multiply,
    "difference": np.subtract,
    "quotient": np.divide,
}
MANY = ("chunk", "split", "unbind", "unstack", "getitem")
"""Functions of which one takes a part."""


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
    functions = [_functions(local, seen) for seen in sides]
    common = next((name for name in functions[0] if name in functions[1]), None)
    if other and common is not None:
        return [_of_others(local, common, other)]
    if not other and all(functions) and common is None and len(local.torch.given) == 2:
        return [_another(local, functions[0][0], functions[1][0])]
    return []


def _of_others(local: Local, name: str, other: int) -> Cause:
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
    return _cause(local, "other_part" if part else "other_operand", summary, evidence, fix)


def _another(local: Local, torch: str, keras: str) -> Cause:
    summary = f"of the same two tensors it is the {torch} in torch and the {keras} in keras"
    return _cause(local, "other_function", summary, {"torch": torch, "keras": keras}, f"keras: the {torch}")


def _cause(local: Local, name: str, summary: str, evidence: Mapping[str, Any], fix: str) -> Cause:
    measured = {"before": local.error, "allowed": local.allowed}
    torch, keras = local.torch.call.name, local.keras.call.name
    return Cause(name, "forward", torch, keras, summary, {**evidence, **measured}, confirmed=True, fix=fix)


def _functions(local: Local, seen: Seen) -> list[str]:
    """The functions that give the value of a side from what went in there."""
    given, found = list(seen.given.values()), list[str]()
    with np.errstate(all="ignore"):
        if len(given) == 1:
            found = [name for name, one in OF_ONE.items() if _gives(local, seen, one(given[0]))]
        elif len(given) == 2 and given[0].shape == given[1].shape:
            pairs = (given, given[::-1])
            found = [name for name, two in OF_TWO.items() if any(_gives(local, seen, two(a, b)) for a, b in pairs)]
    return found


def _gives(local: Local, seen: Seen, made: Array) -> bool:
    return made.shape == seen.value.shape and bool(np.isfinite(made).all()) and local.agree(seen.value, made)


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
