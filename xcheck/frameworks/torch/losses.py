"""The terms of a loss, as a PyTorch side's functions return them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...errors import UserCodeError
from ...pairs.user_code import describe, got
from ...records.trace import Array
from .variables import to_numpy


def scalars(value: Any, what: str, *, numbers: bool = False) -> dict[str, torch.Tensor]:
    """The terms of what a pair returned as a loss, by name.

    Args:
        value: a scalar tensor, or a dict of them.
        what: it is, for the message.
        numbers: Python's are taken too, since nothing is differentiated any more.

    Raises:
        UserCodeError: a term is no scalar.
    """
    terms: Mapping[str, Any] = value if isinstance(value, Mapping) else {"": value}
    if numbers:
        terms = {name: torch.tensor(t, dtype=torch.float64) if isinstance(t, float) else t for name, t in terms.items()}
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor) or term.numel() != 1:
            raise UserCodeError(
                f"The torch {what} is not a scalar.",
                where=f"term {name!r}" if name else None,
                numbers=f"got {describe(term)}",
                cause=_cause(term),
                todo="return a scalar tensor, for example loss.mean(), or a dict of scalars",
            )
    return {name: term.reshape(()) for name, term in terms.items()}


def _cause(term: Any) -> str:
    if not isinstance(term, torch.Tensor):
        return got(term)["cause"] or "it is no tensor any more, as after item() or float(), and has no gradient"
    return "a reduction is missing: reduction='none', or a per-example loss that is not averaged"


def arrays(terms: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Terms in NumPy."""
    return {name: to_numpy(term) for name, term in terms.items()}
