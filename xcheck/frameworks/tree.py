"""The tensors in nested inputs, outputs and attributes of a model, by name; outputs of several calls merged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from ..records.trace import Array, Arrays


def named_tensors(
    value: Any, is_tensor: Callable[[Any], bool], root: str = "output", around: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Every tensor inside a tensor, tuple, list, dict or dataclass, named by its position.

    A single tensor is called `root`; items of a dict or fields of a dataclass have their key as name, items of a tuple
    or list `root` and their index, deeper ones joined by dots. None is skipped.

    Args:
        value: returned by the model.
        is_tensor: tells a tensor from a container.
        root: name of the value itself.
        around: ids of the enclosing containers.

    Raises:
        TypeError: a value is neither, or a container contains itself.
    """
    if value is None:
        return {}
    if id(value) in around:
        raise TypeError(f"the {type(value).__name__} {root} contains itself")
    around = (*around, id(value))
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
    tensors: dict[str, Any] = {}
    for name, item in items:
        for inner, tensor in named_tensors(item, is_tensor, name, around).items():
            path = inner if inner == name or inner.startswith(f"{name}_") else f"{name}.{inner}"
            while path in tensors:
                path += "'"
            tensors[path] = tensor
    return tensors


def tensors_in(value: Any, is_tensor: Callable[[Any], bool], root: str = "output") -> dict[str, Any]:
    """Every tensor inside a nested value by its path; values that are neither containers nor tensors are skipped.

    Args:
        value: input or output of a module or layer.
        is_tensor: tells a tensor from a container.
        root: name of a single tensor; in a container, names are keys and indices joined by dots.
    """
    tensors: dict[str, Any] = {}
    _visit(value, is_tensor, "", lambda name, tensor: tensors.setdefault(name or root, tensor), ())
    return tensors


def replaced(value: Any, others: Mapping[str, Any], is_tensor: Callable[[Any], bool], root: str = "output") -> Any:
    """A copy of a nested value with some tensors replaced.

    Args:
        value: returned by a module or layer.
        others: the new tensors, by the names of `tensors_in`.
        is_tensor, root: as for `tensors_in`.
    """
    return _visit(value, is_tensor, "", lambda name, tensor: others.get(name or root, tensor), ())


def _visit(
    value: Any, is_tensor: Callable[[Any], bool], name: str, visit: Callable[[str, Any], Any], around: tuple[int, ...]
) -> Any:
    def inner(key: Any, item: Any) -> Any:
        return _visit(item, is_tensor, f"{name}.{key}" if name else str(key), visit, (*around, id(value)))

    if is_tensor(value):
        return visit(name, value)
    if id(value) in around:  # a container that contains itself
        return value
    if isinstance(value, Mapping):
        items: dict[Any, Any] = {key: inner(key, item) for key, item in value.items()}  # pyright: ignore
        if type(value) is dict:  # pyright: ignore[reportUnknownArgumentType]
            return items
        changed: Any = copy.copy(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        for key, item in items.items():
            if item is not value[key]:
                changed[key] = item
        return changed
    if isinstance(value, tuple | list):
        parts = [inner(i, item) for i, item in enumerate(value)]  # pyright: ignore
        if hasattr(value, "_fields"):  # pyright: ignore[reportUnknownArgumentType]
            return type(value)(*parts)  # pyright: ignore
        return tuple(parts) if isinstance(value, tuple) else parts
    if is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for member in fields(value):
            object.__setattr__(changed, member.name, inner(member.name, getattr(value, member.name)))
        return changed
    return value


@dataclass(frozen=True, slots=True)
class AttributeValue:
    """A value in a plain attribute of an object, or in a container or object there.

    Attributes:
        path: attribute names, keys and indices joined by dots.
        value: a tensor, a number, a string, None, a function, or a tuple of such.
        owner, key: the object that contains it, and its attribute, key or index there.
    """

    path: str
    value: Any
    owner: Any
    key: Any

    def put(self, value: Any) -> None:
        """Replace the value."""
        if isinstance(self.owner, list | dict):
            self.owner[self.key] = value  # pyright: ignore[reportUnknownMemberType]
        else:
            vars(self.owner)[self.key] = value  # bypasses the object's __setattr__


def attribute_values(
    thing: Any, root: str, skipped: Container[str], is_tensor: Callable[[Any], bool], foreign: Callable[[Any], bool]
) -> list[AttributeValue]:
    """Values in plain attributes of an object, and in containers and objects there, a few levels deep.

    Args:
        thing: a module or a layer.
        root: its path.
        skipped: attributes of the framework.
        is_tensor: whether an object is a tensor, which counts as a value.
        foreign: whether an object must not be searched.
    """
    values: list[AttributeValue] = []

    def visit(owner: Any, key: Any, value: Any, path: str, depth: int) -> None:
        if is_tensor(value) or _is_plain(value):
            values.append(AttributeValue(path, value, owner, key))
            return
        items: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            items = list(value.items())  # pyright: ignore
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))  # pyright: ignore
        elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType) and not foreign(value):
            items = _attributes(value)
        for inner, item in items if depth else ():
            visit(value, inner, item, f"{path}.{inner}", depth - 1)

    for name, value in _attributes(thing):
        if name not in skipped:
            visit(thing, name, value, f"{root}.{name}" if root else name, 3)
    return values


def _attributes(thing: Any) -> list[tuple[Any, Any]]:
    return list(vars(thing).items())  # pyright: ignore


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)  # pyright: ignore
    return value is None or isinstance(value, _PLAIN)


_PLAIN = (bool, int, float, str, FunctionType)


def outputs_record(calls: Sequence[Arrays], size: int) -> Arrays:
    """Outputs under the names of `StepRecord.outputs`: one array per name where the calls share out one batch.

    A step that accumulates its gradient calls the model on parts of the batch; the concatenated outputs equal those of
    one call on the whole batch. Other calls after the first get a number.

    Args:
        calls: of the model within the step, in order; output name -> value.
        size: examples in the batch.
    """
    if len(calls) < 2:
        return calls[0] if calls else {}
    if _share_out(calls, size):
        return {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}
    record: dict[str, Array] = {}
    for number, call in enumerate(calls, 1):
        record |= {name if number == 1 else f"{name} (call {number})": value for name, value in call.items()}
    return record


def _share_out(calls: Sequence[Arrays], size: int) -> bool:
    """Whether the first axes of every output add up to the batch, and the calls agree in all other shapes."""
    kinds = {tuple((name, v.dtype, v.shape[1:]) for name, v in call.items()) for call in calls}
    return len(kinds) == 1 and all(
        all(call[name].ndim for call in calls) and sum(len(call[name]) for call in calls) == size for name in calls[0]
    )
