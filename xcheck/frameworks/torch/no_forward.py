"""Models without a forward pass of their own, such as the two networks of a GAN: their training step is their pass."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import torch

from ...errors import UserCodeError
from ...records.trace import Array
from ..protocol import Prepared
from .patches.dropout import DropoutOff


def has_forward(runner: Any) -> bool:
    """Whether a side can be called: its model has a forward pass, or there is no step to take the place of one."""
    forward = runner.model.forward  # of the class, or of this object alone, as torch.compile sets it
    return runner.declared.step is None or getattr(forward, "__func__", forward) is not torch.nn.Module.forward


def terms_of_a_step(runner: Any, ready: Prepared) -> dict[str, Array]:
    """What the user's step returns, by name; the side is left as it was.

    Args:
        runner: of the side.
        ready: the prepared batch.

    Raises:
        UserCodeError: the step raised.
    """
    kept = runner.snapshot()
    try:
        with runner._scope(), DropoutOff():
            return runner._custom_step(ready)
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
    with suppress(UserCodeError) if swapped else nullcontext():
        runner._custom_step(ready)
