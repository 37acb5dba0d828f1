"""TensorFlow's own variables inside of Keras models, which Keras 3 does not know of."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from ...records.islands import Islands

_NARROW = ("float32", "bfloat16", "float16")
_KERAS = "keras.src.backend.tensorflow"


def variables_in_float64(islands: Islands) -> Callable[..., Any]:
    """A creator of variables that makes them in float64, and notes those that are not made by Keras.

    Args:
        islands: of the side.
    """
    import tensorflow as tf

    def exact(value: Any) -> Any:
        narrow = getattr(getattr(value, "dtype", None), "name", None) in _NARROW
        return tf.cast(value, tf.float64) if narrow else value

    def creator(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        dtype, initial = kwargs.get("dtype"), kwargs.get("initial_value")
        if dtype is not None and tf.as_dtype(dtype).name in _NARROW:
            kwargs["dtype"] = tf.float64
        kwargs["initial_value"] = (lambda: exact(initial())) if callable(initial) else exact(initial)
        variable = next_creator(**kwargs)
        if not _made_by_keras():
            islands.note_variable(str(variable.name).partition(":")[0], weakref.ref(variable))
        return variable

    return creator


def _made_by_keras() -> bool:
    frame, depth = sys._getframe(2), 0  # pyright: ignore[reportPrivateUsage]
    while frame is not None and depth < 20:
        if str(frame.f_globals.get("__name__", "")).startswith(_KERAS):
            return True
        frame, depth = frame.f_back, depth + 1
    return False
