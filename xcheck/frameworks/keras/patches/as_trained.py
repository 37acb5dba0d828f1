"""A Keras model called in training as its training step calls it."""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras

from .untracked import replaced_method


def called(model: Any, x: Any, training: bool) -> Any:
    """What a model returns, called as its training step calls it.

    Args:
        model: built.
        x: its inputs.
        training: whether in training mode.
    """
    if not model._call_has_training_arg:
        return model(x)
    with _alone(model) if training and keras.config.backend() == "jax" else nullcontext():
        return model(x, training=training)


@contextmanager
def _alone(model: Any) -> Generator[None]:
    """The layers inside are not told that the model trains, unless its own `call` tells them.

    On JAX the step goes by `stateless_call`, which runs `call` by itself; elsewhere `Layer.__call__` tells all layers.
    """
    call = model.call

    @functools.wraps(call)
    def alone(*args: Any, **kwargs: Any) -> Any:
        context = model._get_call_context()
        told = context.get_value("training")
        context.set_value("training", None)
        try:
            return call(*args, **kwargs)
        finally:
            context.set_value("training", told)

    with replaced_method(model, "call", alone):
        yield
