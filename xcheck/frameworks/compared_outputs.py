"""The compared outputs of a model: its tensors by name, as real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UserCodeError
from ..records.sides import SideName
from .tree import named_tensors

SIDES = {"torch": "TorchSide", "keras": "KerasSide"}


def compared(
    side: SideName, picked: Any, is_tensor: Callable[[Any], bool], as_real: Callable[[Any], Any], chosen: bool
) -> dict[str, Any]:
    """The tensors that are compared, by name.

    Args:
        side: of the outputs.
        picked: the return value of the model, or of `outputs`.
        is_tensor: tells a tensor from a container.
        as_real: converts a complex tensor to real and imaginary parts on a new axis; leaves others unchanged.
        chosen: the pair picked them with `outputs`, so there must be some.

    Raises:
        UserCodeError: a value is not a tensor, or `outputs` picked nothing.
    """
    try:
        named = named_tensors(picked, is_tensor)
    except TypeError as error:
        raise UserCodeError(
            f"{SIDES[side]}.outputs returned something that cannot be compared."
            if chosen
            else f"The {side} model returned something that cannot be compared.",
            numbers=str(error),
            todo=f"pass {SIDES[side]}(outputs=...) a function that returns the tensors to compare",
        ) from error
    if chosen and not named:
        raise UserCodeError(
            f"{SIDES[side]}.outputs returned no tensor.",
            numbers=f"got {type(picked).__name__}",
            cause="the function returns None: a `return` is missing" if picked is None else None,
            todo="return a tensor, or a dict of named tensors",
        )
    return {name: as_real(tensor) for name, tensor in named.items()}


def nothing_to_differentiate(side: SideName, names: Any) -> UserCodeError:
    """The error for a pair without a loss whose model returns no tensor of floats.

    Args:
        side: of the model.
        names: of its outputs.
    """
    return UserCodeError(
        f"The {side} model has no floating-point output, and the pair has no loss.",
        numbers=f"outputs: {', '.join(names) or 'none'}",
        todo=f"return a tensor of floats, or give both sides a loss; {SIDES[side]}(outputs=...) picks what is compared",
    )
