"""What of a Keras model draws random numbers, and which of its dropouts are of use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ...pairs.pair import Batch
from ...records.trace import Array, Arrays
from ..drawing import SEEDS, seeded, shown
from ..passes import Drops
from .patches.dropout import dropout_off
from .variables import to_numpy


def draws(runner: Any, batch: Batch) -> tuple[str, ...]:
    """As `Runner.draws` says.

    Args:
        runner: of the side.
        batch: in the neutral layout.

    Raises:
        UserCodeError: the model cannot be called with this batch.
    """
    kept = runner.snapshot()
    passes: list[tuple[Arrays, list[str]]] = []
    try:
        with runner._scope():
            ready = runner._ready(batch)
            for seed in SEEDS:
                runner.restore(kept)
                drew: list[str] = []
                with seeded(seed), dropout_off(None, drew, seed=seed):
                    keras.utils.set_random_seed(seed)
                    named = runner._named_outputs(runner._picked(runner._call(ready.inputs, training=True)))
                passes.append(({name: to_numpy(t) for name, t in named.items()}, drew))
    finally:
        runner.restore(kept)
    return shown(passes)


def used_rates(call: Callable[[], dict[str, Any]]) -> tuple[dict[str, Array], list[float]]:
    """The outputs of a pass without dropout, and the rates of what would have dropped something of them.

    A recurrent layer draws its masks in inference too, and does not use them. So each call of dropout hands on zeros
    in a pass of its own: where the outputs stay the same, nothing would have been dropped.

    Args:
        call: makes the pass, and gives its outputs by name.
    """

    def outputs() -> dict[str, Array]:
        return {name: to_numpy(t) for name, t in call().items()}

    drops = Drops()
    with dropout_off(drops):
        found = outputs()
    used: list[float] = []
    for i, rate in enumerate(drops.rates):
        with dropout_off(nothing_at=i):
            moved = outputs()
        if any(not np.array_equal(array, found[name]) for name, array in moved.items()):
            used.append(rate)
    return found, used
