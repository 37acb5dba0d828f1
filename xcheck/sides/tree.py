"""The tensors in whatever a model takes or returns, by name."""

from __future__ import annotations

import copy
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


def tensors_in(value: Any, is_tensor: Callable[[Any], bool], root: str = "output") -> dict[str, Any]:
    """Every tensor inside a nested value, by the path to it; whatever is no container and no tensor is skipped.

    Args:
        value: what a module or a layer was given or returned.
        is_tensor: tells a tensor from a container.
        root: name of a lone tensor; in a container, names are keys and indices joined by dots.
    """
    found: dict[str, Any] = {}
    _visit(value, is_tensor, "", lambda name, tensor: found.setdefault(name or root, tensor))
    return found


def replaced(value: Any, others: Mapping[str, Any], is_tensor: Callable[[Any], bool], root: str = "output") -> Any:
    """A copy of a nested value with other tensors in some places.

    Args:
        value: what a module or a layer returned.
        others: the new tensors, by the names of `tensors_in`.
        is_tensor, root: as for `tensors_in`.
    """
    return _visit(value, is_tensor, "", lambda name, tensor: others.get(name or root, tensor))


def _visit(value: Any, is_tensor: Callable[[Any], bool], name: str, visit: Callable[[str, Any], Any]) -> Any:
    def inner(key: Any, item: Any) -> Any:
        return _visit(item, is_tensor, f"{name}.{key}" if name else str(key), visit)

    if is_tensor(value):
        return visit(name, value)
    if isinstance(value, Mapping):
        items: dict[Any, Any] = {key: inner(key, item) for key, item in value.items()}  # pyright: ignore
        if type(value) is dict:  # pyright: ignore[reportUnknownArgumentType]
            return items
        made: Any = copy.copy(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        for key, item in items.items():
            if item is not value[key]:
                made[key] = item
        return made
    if isinstance(value, tuple | list):
        parts = [inner(i, item) for i, item in enumerate(value)]  # pyright: ignore
        if hasattr(value, "_fields"):  # pyright: ignore[reportUnknownArgumentType]
            return type(value)(*parts)  # pyright: ignore
        return tuple(parts) if isinstance(value, tuple) else parts
    if is_dataclass(value) and not isinstance(value, type):
        made = copy.copy(value)
        for f in fields(value):
            object.__setattr__(made, f.name, inner(f.name, getattr(value, f.name)))
        return made
    return value
