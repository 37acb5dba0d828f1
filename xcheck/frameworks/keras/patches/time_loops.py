"""The time steps of Keras's own recurrent layers on TensorFlow, as one graph that is made once.

Outside of a graph Keras runs a time step as some thirty operations that Python starts one by one, and as many on the
way back. A cell that is Keras's own, with functions of Keras's own, computes the same in a graph: it keeps nothing in
Python. A cell that somebody wrote, or one that draws at random or computes in another float type, is left as it is.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras

LEAST = 16
"""Time steps from which on a graph is made; fewer take less time than making it."""

_OWN = "keras."
"""How the modules of Keras start."""

_NUMBERS = (bool, int, float, str)


class TimeLoops:
    """The graphs of the recurrent layers of one model.

    Args:
        precision: the float type of the run.
    """

    def __init__(self, precision: str) -> None:
        self._precision = precision
        self._made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    @contextmanager
    def as_graphs(self) -> Generator[None]:
        """Run the time steps of recurrent layers as graphs until the block ends."""
        if keras.config.backend() != "tensorflow":
            yield
            return
        import tensorflow as tf

        recurrent: Any = keras.layers.RNN
        original = recurrent.inner_loop

        def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any = None, training: bool = False) -> Any:
            steps = sequences.shape[1]
            if not tf.executing_eagerly() or not steps or steps < LEAST or not self._plain(layer):
                return original(layer, sequences, initial_state, mask=mask, training=training)
            parts = [part for each in (layer, *layer.cell._flatten_layers()) for part in _parts(each)]
            key = id(layer), bool(training), *(part if isinstance(part, _NUMBERS) else id(part) for part in parts)
            if key not in self._made:

                def loop(sequences: Any, initial_state: Any, mask: Any) -> Any:
                    return original(layer, sequences, initial_state, mask=mask, training=training)

                # The layer and its parts are held, so that no id is used again.
                self._made[key] = tf.function(loop, autograph=False), (layer, parts)
            return self._made[key][0](sequences, initial_state, mask)

        recurrent.inner_loop = inner_loop
        try:
            yield
        finally:
            recurrent.inner_loop = original

    def _plain(self, layer: Any) -> bool:
        """Whether the time steps of a layer are Keras's own code, in the float type of the run, without chance."""
        cell = layer.cell
        if layer.unroll or not isinstance(cell, keras.layers.Layer):
            return False
        return all(self._plain_cell(each) for each in cell._flatten_layers())

    def _plain_cell(self, cell: Any) -> bool:
        held = vars(cell).values()
        code = [type(cell), *filter(callable, held)]
        own = all((getattr(part, "__module__", None) or "").startswith(_OWN) for part in code)
        draws = getattr(cell, "dropout", 0) or getattr(cell, "recurrent_dropout", 0)
        # A weight that another layer computes anew in each step would be a constant of the graph.
        computed = any(keras.ops.is_tensor(part) and not isinstance(part, keras.Variable) for part in held)
        return own and not draws and not computed and cell.dtype_policy.name == self._precision


def _parts(layer: Any) -> list[Any]:
    """What the graph of a layer was made of: its numbers, its variables and its functions."""
    return [part for part in vars(layer).values() if isinstance(part, (*_NUMBERS, keras.Variable)) or callable(part)]
