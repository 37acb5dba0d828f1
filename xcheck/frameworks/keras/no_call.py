"""Models without a `call` of their own, such as the two networks of a GAN: their training step is their pass."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import keras

from ...errors import UserCodeError
from ...pairs.user_code import calling
from ...records.trace import Array
from ..protocol import EAGER, Prepared
from .patches.dropout import dropout_off
from .patches.training_step import Seen, has_own_step


def has_call(model: keras.Model) -> bool:
    """Whether a model is more than the step of its class: one without a step must be called."""
    return getattr(model.call, "__func__", None) is not keras.Model.call or not has_own_step(model)


def terms_of_a_step(runner: Any, ready: Prepared) -> dict[str, Array]:
    """What the user's step returns, by name; the side is left as it was.

    Args:
        runner: of the side, in its scope.
        ready: the prepared batch.

    Raises:
        UserCodeError: the step raised.
    """
    kept = runner.snapshot()
    try:
        with dropout_off():
            return Seen().losses(runner._train(ready, EAGER), own_step=True)
    finally:
        runner.restore(kept)


def pass_by_step(runner: Any, ready: Prepared, swapped: bool) -> None:
    """Make the user's step in the place of a forward pass.

    Args:
        runner: of the side, in its scope.
        ready: the prepared batch.
        swapped: values are exchanged on the way, which may leave the step without a gradient: it ends there.

    Raises:
        UserCodeError: the step raised, and nothing was exchanged.
    """
    with suppress(UserCodeError) if swapped else nullcontext(), calling("keras training step"):
        runner._train(ready, EAGER)
