"""What of a PyTorch model draws random numbers in training, besides dropout."""

from __future__ import annotations

from typing import Any

import torch

from ...pairs.pair import Batch
from ...records.trace import Arrays
from ..drawing import SEEDS, seeded, shown
from .patches.dropout import DropoutOff
from .variables import to_numpy


def draws(runner: Any, batch: Batch) -> tuple[str, ...]:
    """As `Runner.draws` says.

    Args:
        runner: of the side.
        batch: in the neutral layout.

    Raises:
        UserCodeError: the model cannot be called with this batch.
    """
    runner._called = runner.model
    ready, kept, modes = runner._ready(batch), runner.snapshot(), {m: m.training for m in runner.model.modules()}
    passes: list[tuple[Arrays, list[str]]] = []
    try:
        for seed in SEEDS:
            runner.restore(kept)
            runner.model.train()
            torch.manual_seed(seed)
            with runner._scope(), DropoutOff(runner._layer) as off, torch.no_grad(), seeded(seed):
                named = runner._named_outputs(runner._call(ready.inputs))
            passes.append(({name: to_numpy(t) for name, t in named.items()}, off.draws))
    finally:
        for module, mode in modes.items():
            module.training = mode
        runner.restore(kept)
    return shown(passes)
