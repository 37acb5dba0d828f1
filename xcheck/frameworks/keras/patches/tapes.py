"""Gradients that a training step takes with a tape, for one that changes its weights without an optimizer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import keras


def recording() -> bool:
    """Whether gradients are being recorded; always on JAX, where nothing says so."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        from tensorflow.python.eager import record

        return bool(record.could_possibly_record())
    if backend == "torch":
        return bool(sys.modules["torch"].is_grad_enabled())
    return True


@contextmanager
def taped(tell: Callable[[Any, Any], None]) -> Generator[None]:
    """While the block runs, tell of each gradient that a tape of TensorFlow takes; other backends have no tapes.

    Args:
        tell: called with what was differentiated by, and the gradient or None.
    """
    if keras.config.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tape_class: Any = tf.GradientTape
    original = tape_class.gradient

    def gradient(tape: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(tape, target, sources, *args, **kwargs)
        for source, one in zip(tf.nest.flatten(sources), tf.nest.flatten(found), strict=True):
            tell(source, one)
        return found

    tape_class.gradient = gradient
    try:
        yield
    finally:
        tape_class.gradient = original
