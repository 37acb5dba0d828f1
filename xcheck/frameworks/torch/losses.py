"""The terms of a loss, as a PyTorch side's functions return them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...errors import UserCodeError
from ...pairs.user_code import describe, got
from ...records.trace import Array
from ..step_terms import returned_terms, step_record
from .variables import to_numpy


def scalars(value: Any, what: str) -> dict[str, torch.Tensor]:
    """The terms of what a pair returned as a loss, by name.

    Args:
        value: a scalar tensor, or a dict of them.
        what: it is, for the message.

    Raises:
        UserCodeError: a term is no scalar.
    """
    terms: Mapping[str, Any] = value if isinstance(value, Mapping) else {"": value}
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
        return got(term)["cause"] or "it is not a tensor (item() or float() was called), so it has no gradient"
    return "a reduction is missing: reduction='none', or a per-example loss that is not averaged"


def arrays(terms: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Terms in NumPy."""
    return {name: to_numpy(term) for name, term in terms.items()}


def step_losses(value: Any) -> dict[str, Array]:
    """What a step of the user's own returned, as for `StepRecord.losses`.

    Args:
        value: the loss, a container of terms, which may hold more than numbers, or None.

    Raises:
        UserCodeError: it is one tensor, and no scalar.
    """
    if value is None:
        return {}
    if isinstance(value, torch.Tensor):
        return {"total": arrays(scalars(value, "step"))[""]}
    terms = returned_terms(value, lambda leaf: to_numpy(leaf) if isinstance(leaf, torch.Tensor) else leaf)
    if not isinstance(value, Mapping) and len(terms) == 1:  # the loss beside what it was made of
        return {"total": next(iter(terms.values()))}
    return dict(step_record(terms))
