"""Whether a batch that a pair did not give is one that its sides take, and what they say if not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UserCodeError
from ..frameworks.protocol import Runner, prepared
from ..frameworks.tree import tensors_in
from ..pairs.pair import Batch, Pair
from ..records.sides import SIDES, SideName

CUT = 70
"""Characters of a reason."""


def refusal(
    reference: Runner,
    follower: Runner,
    restore: Callable[[Runner], None],
    number: int,
    batch: Batch,
    error: UserCodeError,
) -> str:
    """Which sides do not take a batch, and why not.

    Args:
        reference, follower: the sides.
        restore: sets both back.
        number: of the step.
        batch: that was refused.
        error: what was said first.
    """
    refusing: list[SideName] = []
    for each in (reference, follower):
        restore(reference)
        try:
            each.step(number, batch)
        except UserCodeError:
            refusing.append(each.side)
    if len(refusing) == 2:
        return "neither side takes it"
    reason = (error.parts["cause"] or str(error)).strip().splitlines()[0][:CUT]
    return f"the {refusing[0]} side does not take it: {reason}" if refusing else reason


def fixed_size(pair: Pair, given: Batch, made: Batch) -> str | None:
    """Why a batch of another size is not valid: what a side prepares has as many examples as the given ones, always.

    Args:
        pair: whose `prepare` functions.
        given: a batch of the pair.
        made: the batch in question.

    Raises:
        UserCodeError: `prepare` does not take it.
    """
    if made.size == given.size:
        return None
    for side in SIDES:
        prepare: Any = getattr(getattr(pair, side), "prepare", None)
        before, after = (_shapes(prepared(prepare, batch, side)) for batch in (given, made))
        for name, shape in before.items():
            if shape[:1] == after.get(name, ())[:1] == (given.size,):
                return f"what the {side} side prepares always has {given.size} examples"
    return None


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(a.shape) for name, a in tensors_in(tuple(value), lambda a: hasattr(a, "shape")).items()}


def ignored_label(pair: Pair) -> int | None:
    """The label that a loss is set to leave out; None where none is, or it is that of PyTorch by default."""
    settings = getattr(pair.torch, "loss", None), getattr(pair.keras, "loss", None)
    found = [getattr(loss, name, None) for loss, name in zip(settings, ("ignore_index", "ignore_class"), strict=True)]
    return next((label for label in found if isinstance(label, int) and label != -100), None)
