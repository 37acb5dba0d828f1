"""How the variables of Keras and of its backends are saved and put back in place."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ...records.store import Store
from ...records.trace import Array
from ..reachable import Leaf

_BACKENDS = ("tensorflow.", "jax", "torch")
"""How the modules start whose classes are tensors."""


class KerasTensors:
    """As `reachable.Tensors`."""

    opaque: Sequence[str] = (
        "tensorflow.",
        "jax.",
        "jaxlib.",
        "torch.",
        "wrapt.",
        "h5py.",
        "keras.src.ops.node.",
        "keras.src.backend.common.keras_tensor.",
    )
    passing: frozenset[str] = frozenset(
        (
            "train_function",
            "test_function",
            "predict_function",
            "_run_eagerly",
            "run_eagerly",
            "_jit_compile",
            "jit_compile",
            "_jax_state",  # on JAX, what the last step computed: the variables have it
            "_jax_state_synced",
        )
    )

    def always(self, thing: Any) -> bool:
        """Layers are looked into, whatever else they are on a backend."""
        return isinstance(thing, keras.layers.Layer)

    def wrapped(self, thing: Any) -> Any:
        """TensorFlow tracks what lists and dicts that are attributes of a model hold."""
        if not type(thing).__module__.startswith("tensorflow."):
            return None
        return getattr(thing, "_storage" if isinstance(thing, list) else "__wrapped__", None)

    def place(self, thing: Any) -> Any:
        """Who it is."""
        return id(thing._value) if isinstance(thing, keras.Variable) and hasattr(thing._value, "assign") else id(thing)

    def put(self, thing: Any, array: Array) -> bool:
        """A variable or a NumPy array gets these values."""
        if isinstance(thing, np.ndarray):
            np.copyto(thing, array)
        elif hasattr(thing, "assign"):
            thing.assign(array)
        else:
            return False
        return True

    def made(self, thing: Any, array: Array) -> Any:
        """A tensor of the backend's own."""
        return keras.ops.convert_to_tensor(array, thing.dtype)

    def leaf(self, thing: Any, store: Store) -> Leaf | None:
        """A variable of Keras or of its backend, or a tensor that never changes, saved."""
        if isinstance(thing, keras.Variable):
            return _variable(thing, store)
        if not _of_backend(type(thing)) or isinstance(thing, list | dict):
            return None
        if keras.ops.is_tensor(thing) and hasattr(thing, "shape"):
            concrete = keras.config.backend() != "tensorflow" or hasattr(thing, "_numpy")
            if hasattr(thing, "assign") or concrete:
                return _tensor(thing, store)
            return Leaf(None, _nothing)
        return None


@functools.cache
def _of_backend(kind: type) -> bool:
    return kind.__module__.startswith(_BACKENDS)


def _nothing() -> None:
    """A tensor of a graph holds nothing."""


def _variable(variable: Any, store: Store) -> Leaf:
    if variable._value is None:
        return Leaf(None, _nothing)
    array, trainable = store.keep(np.asarray(keras.ops.convert_to_numpy(variable))), variable.trainable

    def back() -> None:
        if variable.trainable != trainable:
            variable.trainable = trainable
        variable.assign(array)

    return Leaf(array, back)


def _tensor(tensor: Any, store: Store) -> Leaf:
    """A variable of the backend's own, or one of its tensors, which only whoever holds it can replace."""
    array = store.keep(np.asarray(keras.ops.convert_to_numpy(tensor)))

    def back() -> None:
        if hasattr(tensor, "assign"):
            tensor.assign(array)
        elif hasattr(tensor, "copy_"):
            tensor.detach().copy_(keras.ops.convert_to_tensor(array))

    return Leaf(array, back)
