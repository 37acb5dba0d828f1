"""What a Keras model returns, off by one more rounding error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from ...protocol import rounding_factors
from ...tree import replaced, tensors_in


@contextmanager
def rounding(model: Any, rng: np.random.Generator) -> Generator[None]:
    """As `Runner.rounding`."""
    call = model.call

    def rounded(*args: Any, **kwargs: Any) -> Any:
        raw = call(*args, **kwargs)
        if in_symbolic_scope():
            return raw
        tensors = tensors_in(raw, keras.ops.is_tensor)
        floats = {n: t for n, t in tensors.items() if keras.backend.is_float_dtype(t.dtype)}
        return replaced(raw, {name: _moved(tensor, rng) for name, tensor in floats.items()}, keras.ops.is_tensor)

    # object.__setattr__ keeps Keras from tracking the wrapper as state of the model.
    object.__setattr__(model, "call", rounded)
    try:
        yield
    finally:
        object.__delattr__(model, "call")


def _moved(tensor: Any, rng: np.random.Generator) -> Any:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    moved = rounding_factors(tuple(tensor.shape), float(np.finfo(dtype).eps), rng)
    by: Any = keras.ops.convert_to_tensor(moved, dtype)
    size: Any = keras.ops.abs(tensor)
    out = (size <= 1) & (size * by > 1)  # of the range that a loss may hold probabilities to
    made = tensor * keras.ops.where(out, 2 - by, by)
    for name, value in getattr(tensor, "__dict__", {}).items():
        if name.startswith("_keras_"):  # a mask, or the logits that a loss takes in place of probabilities
            setattr(made, name, value)
    return made
