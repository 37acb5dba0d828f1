"""The training step of a model without a forward pass of its own, such as the two networks of a GAN, in its place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from ..errors import UserCodeError
from ..pairs.user_code import calling
from ..records.trace import Array


def terms_of_a_step(runner: Any, step: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """What the user's step returns, by name; the side is left as it was.

    Args:
        runner: of the side.
        step: makes the step.

    Raises:
        UserCodeError: the step raised.
    """
    kept = runner.snapshot()
    try:
        return step()
    finally:
        runner.restore(kept)


def pass_by_step(step: Callable[[], object], what: str, swapped: bool) -> None:
    """Make the user's step in the place of a forward pass.

    Args:
        step: makes it.
        what: it is called in messages.
        swapped: values are exchanged on the way, which may leave the step without a gradient: it ends there.

    Raises:
        UserCodeError: the step raised, and nothing was exchanged.
    """
    with suppress(UserCodeError) if swapped else nullcontext(), calling(what):
        step()
