"""Every function of Keras's backend that is called on tensors, shown as it is called.

`keras.ops` and the layers look the functions up in the backend's modules when they run, so those are replaced for the
length of a pass; so are the operators of the backend's own tensors. What a model calls of TensorFlow or JAX itself is
not seen.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src import backend

Record = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""(name, function, args, kwargs) -> what the function returns, or something else in its place."""

_MODULES = ("numpy", "nn", "math", "core", "image", "linalg")
_LEFT_ALONE = (
    *("convert_to_tensor", "convert_to_numpy", "is_tensor", "shape", "cast", "compute_output_spec"),
    *("device_scope", "random_seed_dtype", "cond", "vectorized_map", "map", "scan", "associative_scan", "switch"),
    *("while_loop", "fori_loop", "custom_gradient", "remat"),
)
"""Functions that compute nothing, or that call others."""

_FUSED = ("gru", "lstm", "bidirectional_gru", "bidirectional_lstm")

_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "matmul": "matmul",
    "pow": "power",
}

_IMMUTABLE = 1 << 8
"""The flag of a class of C code whose attributes cannot be set: `Py_TPFLAGS_IMMUTABLETYPE`."""


@contextmanager
def functions_shown(record: Record) -> Generator[None]:
    """Call `record` in place of each function of the backend, until the block ends."""
    replaced: list[tuple[Any, str, Any]] = []
    try:
        for holder, attribute, made in [*_functions(record), *_operators(record)]:
            replaced.append((holder, attribute, vars(holder).get(attribute)))
            setattr(holder, attribute, made)
        yield
    finally:
        for holder, attribute, original in reversed(replaced):
            if original is None:
                delattr(holder, attribute)
            else:
                setattr(holder, attribute, original)


def _functions(record: Record) -> list[tuple[Any, str, Any]]:
    found: list[tuple[Any, str, Any]] = []
    for name in _MODULES:
        module = getattr(backend, name)
        for attribute, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and not attribute.startswith("_") and attribute not in _LEFT_ALONE:
                found.append((module, attribute, _shown(record, attribute, function)))
    # Layers take whole recurrent layers, which a backend may compute by a kernel of its own, from the backend itself.
    fused = ((name, function) for name in _FUSED if (function := getattr(backend, name, None)) is not None)
    return [*found, *((backend, name, _shown(record, name, function)) for name, function in fused)]


def _shown(record: Record, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def shown(*args: Any, **kwargs: Any) -> Any:
        return record(name, function, args, kwargs)

    return shown


def _operators(record: Record) -> list[tuple[Any, str, Any]]:
    kind: Any = type(keras.ops.zeros((1,)))
    found: list[tuple[Any, str, Any]] = []

    def add(method: str, name: str, *, swapped: bool = False) -> None:
        # TensorFlow's operators belong to the base class of what it computes with; most of PyTorch's to one that
        # cannot be changed, and are put over in the class itself.
        owner = next(c for c in kind.__mro__ if method in vars(c))
        holder = kind if owner.__flags__ & _IMMUTABLE else owner
        found.append((holder, method, _operator(record, name, getattr(holder, method), swapped=swapped)))

    for word, name in _OPERATORS.items():
        add(f"__{word}__", name)
        if hasattr(kind, f"__r{word}__"):
            add(f"__r{word}__", name, swapped=True)
    for word in ("neg", "getitem"):
        add(f"__{word}__", word)
    return found


def _operator(record: Record, name: str, original: Callable[..., Any], *, swapped: bool = False) -> Callable[..., Any]:
    def turned(x: Any, y: Any) -> Any:
        return original(y, x)

    @functools.wraps(original)
    def shown(*args: Any) -> Any:
        return record(name, turned, args[::-1], {}) if swapped else record(name, original, args, {})

    return shown
