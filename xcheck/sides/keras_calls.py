"""Every call of a Keras layer in one forward pass.

Keras has no forward hooks; `keras.layers.Layer.__call__` is wrapped for the length of the pass. Calls nest, so that a
stack tells which was made in which.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from ..calls import Call, Swap
from .keras_variables import canonical, kind_of, to_numpy
from .tree import replaced, tensors_in


class Watch:
    """Records the calls of a model's layers while `recording`.

    Args:
        model: built.
        swap: may replace what a layer returns.

    Attributes:
        made: the calls that have ended.
        tensors: index of a call -> its outputs as backend tensors, for the gradients.
    """

    def __init__(self, model: keras.Model, swap: Swap | None = None) -> None:
        self.model = model
        self.made: list[Call] = []
        self.tensors: dict[int, dict[str, Any]] = {}
        self._swap = swap
        self._open: list[tuple[int, dict[str, Any]]] = []
        self._entered = 0
        self._numbers: dict[str, int] = {}
        self._places = canonical(model)

    @contextmanager
    def recording(self) -> Generator[None]:
        """Watch the layers until the block ends."""
        layer_class: Any = keras.layers.Layer
        original = layer_class.__call__

        def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
            given = tensors_in({str(i): a for i, a in enumerate(args)} | kwargs, keras.ops.is_tensor)
            if not _concrete(given):
                return original(layer, *args, **kwargs)
            index = self._entered
            self._entered += 1
            self._open.append((index, {name: to_numpy(t) for name, t in given.items()}))
            try:
                raw = original(layer, *args, **kwargs)
            finally:
                _, inputs = self._open.pop()
            tensors = tensors_in(raw, keras.ops.is_tensor)
            return self._ended(layer, index, inputs, raw, tensors) if _concrete(tensors) else raw

        layer_class.__call__ = watched
        try:
            yield
        finally:
            layer_class.__call__ = original

    def _ended(self, layer: Any, index: int, inputs: dict[str, Any], raw: Any, tensors: dict[str, Any]) -> Any:
        path = "" if layer is self.model else layer.path or layer.name
        self._numbers[path] = self._numbers.get(path, 0) + 1
        call = Call(
            index=index,
            parent=self._open[-1][0] if self._open else None,
            path=path,
            kind=kind_of(layer),
            number=self._numbers[path],
            inputs=inputs,
            outputs={name: to_numpy(t) for name, t in tensors.items()},
            parameters=self._held(layer),
        )
        self.made.append(call)
        others = self._swap(call) if self._swap else None
        if others is None:
            self.tensors[index] = tensors
            return raw
        made = {n: keras.ops.convert_to_tensor(np.array(a), tensors[n].dtype) for n, a in others.items()}
        return replaced(raw, made, keras.ops.is_tensor)

    def _held(self, layer: Any) -> tuple[str, ...]:
        held = [*layer._trainable_variables, *layer._non_trainable_variables]
        return tuple(self._places[id(v)].path for v in held if id(v) in self._places)


def differentiated(total: Callable[[], Any], watch: Watch) -> dict[int, Mapping[str, Any]]:
    """Index of a call -> gradient of the total loss with respect to each of its outputs, where there is one.

    Args:
        total: makes the recorded forward pass and returns the loss.
        watch: that records it.
    """
    backend = keras.config.backend()
    if backend == "jax":  # what is differentiated there is a function of its inputs, not of what happens inside
        total()
        return {}
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = total()
        wanted = _floating(watch)
        found: Any = tape.gradient(loss, [t for _, _, t in wanted])
    else:
        import torch

        loss = total()
        wanted = [w for w in _floating(watch) if w[2].requires_grad]
        found = torch.autograd.grad(loss, [t for _, _, t in wanted], allow_unused=True)
    by_call: dict[int, dict[str, Any]] = {}
    for (index, name, _), gradient in zip(wanted, found, strict=True):
        if gradient is not None:
            by_call.setdefault(index, {})[name] = to_numpy(gradient)
    return dict(by_call)


def _floating(watch: Watch) -> list[tuple[int, str, Any]]:
    every = [(i, name, t) for i, named in watch.tensors.items() for name, t in named.items()]
    return [w for w in every if keras.backend.is_float_dtype(keras.backend.standardize_dtype(w[2].dtype))]


def _concrete(tensors: dict[str, Any]) -> bool:
    """Whether there are values to read: not while Keras or a compiler only traces shapes."""
    return bool(tensors) and not any(_symbolic(t) for t in tensors.values())


def _symbolic(tensor: Any) -> bool:
    if isinstance(tensor, keras.KerasTensor):
        return True
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.is_symbolic_tensor(tensor))
    if backend == "jax":
        from jax.core import Tracer  # pyright: ignore[reportMissingImports]

        return isinstance(tensor, Tracer)
    return bool(tensor.is_meta)
