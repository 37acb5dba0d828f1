"""The places where a tensor of a Keras training step loses its gradient, and the step with it kept there.

On TensorFlow and PyTorch. On JAX a step is traced before it runs, and what it was traced with stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
from keras.src import backend

from ....records.calls import LOSS, Open, Stop
from ..variables import to_numpy
from .training_step import in_graph

if TYPE_CHECKING:
    from ..running_side import LiveKeras

KIND = "stop_gradient"


@contextmanager
def stops(runner: LiveKeras, let_through: Open) -> Generator[list[Stop]]:
    """While the block runs, tensors keep their gradient at the chosen places.

    Args:
        runner: whose training step.
        let_through: told of each place.
    """
    found: list[Stop] = []
    if keras.config.backend() == "jax":
        yield found
        return
    stack: list[str] = []
    numbers: Counter[str] = Counter()
    silent: list[bool] = []  # while the model is run in inference, and within a stop that is known
    layer_class: Any = keras.layers.Layer
    call, infer = layer_class.__call__, runner._infer

    def followed(layer: Any, *args: Any, **kwargs: Any) -> Any:
        stack.append("" if layer is runner.model else layer.path or layer.name)
        try:
            return call(layer, *args, **kwargs)
        finally:
            stack.pop()

    def unseen(*args: Any) -> Any:
        silent.append(True)
        try:
            return infer(*args)
        finally:
            silent.pop()

    def shown(original: Callable[..., Any]) -> Callable[..., Any]:
        def stopping(x: Any, *args: Any, **kwargs: Any) -> Any:
            if silent or in_graph() or not keras.ops.is_tensor(x):
                return original(x, *args, **kwargs)
            path = stack[-1] if stack else LOSS
            numbers[path] += 1
            found.append(Stop(path, KIND, numbers[path], to_numpy(x)))
            if let_through(found[-1]):
                return x
            silent.append(True)
            try:
                return original(x, *args, **kwargs)
            finally:
                silent.pop()

        return stopping

    holders = [backend.core, *_of_the_backend()]
    originals = [holder.stop_gradient for holder in holders]
    layer_class.__call__ = followed
    object.__setattr__(runner, "_infer", unseen)
    for holder, original in zip(holders, originals, strict=True):
        holder.stop_gradient = shown(original)
    try:
        yield found
    finally:
        layer_class.__call__ = call
        object.__delattr__(runner, "_infer")
        for holder, original in zip(holders, originals, strict=True):
            holder.stop_gradient = original


def _of_the_backend() -> list[Any]:
    if keras.config.backend() != "tensorflow":
        return []
    import tensorflow as tf

    return [tf]
