"""Names for the tensors in whatever a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def named_tensors(value: Any, is_tensor: Callable[[Any], bool], root: str = "output") -> dict[str, Any]:
    """Every tensor inside a tensor, tuple, list, dict or dataclass, by a name that says where it was.

    A lone tensor is called `root`; items of a dict or fields of a dataclass go by their key, items of a tuple or
    list by `root` and their index, deeper ones joined by dots. None is skipped.

    Args:
        value: what the model returned.
        is_tensor: tells a tensor from a container.
        root: name of the value itself.

    Raises:
        TypeError: there is something that is neither.
    """
    if value is None:
        return {}
    if is_tensor(value):
        return {root: value}
    if isinstance(value, Mapping):
        items: list[tuple[str, Any]] = [(str(key), item) for key, item in value.items()]  # pyright: ignore
    elif is_dataclass(value) and not isinstance(value, type):
        items = [(f.name, getattr(value, f.name)) for f in fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):  # pyright: ignore[reportUnknownArgumentType]
        items = list(zip(value._fields, value, strict=True))  # pyright: ignore
    elif isinstance(value, tuple | list):
        items = [(f"{root}_{i}", item) for i, item in enumerate(value)]  # pyright: ignore
    else:
        raise TypeError(f"{type(value).__name__} is neither a tensor nor a container of tensors")
    found: dict[str, Any] = {}
    for name, item in items:
        for inner, tensor in named_tensors(item, is_tensor, name).items():
            path = inner if inner == name or inner.startswith(f"{name}_") else f"{name}.{inner}"
            while path in found:
                path += "'"
            found[path] = tensor
    return found
