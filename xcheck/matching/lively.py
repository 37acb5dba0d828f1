"""Weights under which the values of a side are informative: a ReLU after a negative bias returns only zeros.

Tensors of zeros are indistinguishable, and hide their inputs. If a side has such values, other weights are drawn for
it, and those with the fewest such values are kept.
"""

from __future__ import annotations

from contextlib import suppress

from ..errors import UserCodeError
from ..pairs.pair import Batch
from ..records.calls import Calls, everywhere
from ..records.trace import State
from .draws import drawn_weights
from .matchable import Matchable

MOST_DRAWS = 3
"""Number of other draws of weights for one side."""


def lively(runner: Matchable, batch: Batch, seed: int) -> Calls:
    """One forward pass of a side with all its functions, under weights that give few constant values.

    Args:
        runner: of the side; it keeps these weights.
        batch: to run it on.
        seed: of the draws.

    Raises:
        UserCodeError: the model cannot be called with its current weights.
    """
    calls = runner.calls(batch, inside=everywhere)
    dull, best = _constant(calls), runner.read()
    if not dull:
        return calls
    held = {entry.path for entry in runner.inventory().canonical()}
    for draw in range(MOST_DRAWS):
        runner.write(State(best.parameters, best.buffers))
        with suppress(UserCodeError):
            runner.write(drawn_weights(runner, held, seed + draw, bold=True))
            made = runner.calls(batch, inside=everywhere)
            now = _constant(made)
            same = now == dull  # such as a mask of zeros, which no weights change
            if len(now) < len(dull):
                calls, dull, best = made, now, runner.read()
            if same or not dull:
                break
    runner.write(State(best.parameters, best.buffers))
    return calls


def _constant(calls: Calls) -> set[str]:
    """Names of calls whose output is one number everywhere or not finite, although their input varies."""
    return {
        call.name
        for call in calls
        for array in (call.outputs.values() if call.inputs else ())
        if array.dtype.kind == "f" and array.size > 1 and not array.max() > array.min()
    }
