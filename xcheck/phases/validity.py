"""Whether the sides of a pair accept a batch that the pair did not give, and their reason if not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UserCodeError
from ..frameworks.protocol import Runner, prepared
from ..frameworks.tree import tensors_in
from ..pairs.pair import Batch, Pair
from ..records.sides import SIDES, SideName

CUT = 70
"""Largest number of characters of a reason."""


def refusal(
    reference: Runner,
    follower: Runner,
    restore: Callable[[Runner], None],
    number: int,
    batch: Batch,
    error: UserCodeError,
) -> str:
    """The sides that refuse a batch, and the reason.

    Args:
        reference, follower: the sides.
        restore: restores both sides.
        number: of the step.
        batch: the refused batch.
        error: the first error.
    """
    refusing: list[SideName] = []
    for runner in (reference, follower):
        restore(reference)
        try:
            runner.step(number, batch)
        except UserCodeError:
            refusing.append(runner.side)
    if len(refusing) == 2:
        return "neither side takes it"
    reason = (error.parts["cause"] or str(error)).strip().splitlines()[0][:CUT]
    return f"the {refusing[0]} side refuses it: {reason}" if refusing else reason


def fixed_size(pair: Pair, given: Batch, made: Batch) -> str | None:
    """Why a batch of a different size is not valid: `prepare` of a side always returns the size of the given batches.

    Args:
        pair: has the `prepare` functions.
        given: a batch of the pair.
        made: the batch in question.

    Raises:
        UserCodeError: `prepare` does not accept it.
    """
    if made.size == given.size:
        return None
    for side in SIDES:
        prepare: Any = getattr(getattr(pair, side), "prepare", None)
        before, after = (_shapes(prepared(prepare, batch, side)) for batch in (given, made))
        for name, shape in before.items():
            if shape[:1] == after.get(name, ())[:1] == (given.size,):
                return f"prepare of the {side} side always returns {given.size} examples"
    return None


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(a.shape) for name, a in tensors_in(tuple(value), lambda a: hasattr(a, "shape")).items()}


def ignored_label(pair: Pair) -> int | None:
    """The label that a loss is set to ignore; None where there is none, or only the default of PyTorch."""
    losses = getattr(pair.torch, "loss", None), getattr(pair.keras, "loss", None)
    labels = [getattr(loss, name, None) for loss, name in zip(losses, ("ignore_index", "ignore_class"), strict=True)]
    return next((label for label in labels if isinstance(label, int) and label != -100), None)
