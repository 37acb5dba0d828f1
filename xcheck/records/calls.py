"""The calls inside a model: every call of a module or layer, with its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .trace import Array, Arrays

LOSS = "(loss)"
"""Path of the call that computes the loss and the penalties."""


def _none() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module, layer or function in one forward pass.

    Attributes:
        index: order in which the call was entered, from 0; a trace lists calls in the order in which they ended.
        parent: index of the enclosing call; None for the model itself.
        path: of the module or layer, in the side's words; "" for the model. For a function, the path of the module
            that called it.
        kind: the nearest framework class that it is or derives from; the name of a function.
        number: of the call among those of this path, from 1; for a function, among those of its name there.
        inputs: by position ("0", "1") or keyword, nested ones joined by dots; for a function without parameters
            of the model.
        outputs: by name ("output" if there is only one).
        parameters: canonical paths of the module's own parameters and buffers, or of those passed to a function.
        gradients: of the total loss with respect to the outputs, by the same names; only those that were requested
            and exist.
        settings: numbers, strings and booleans, from public attributes of the module or arguments of a function.
        function: it is a function, not a module.
        line: of the user's file that called a function, such as "losses.py:41"; "" if there is none.
    """

    index: int
    parent: int | None
    path: str
    kind: str
    number: int
    inputs: Arrays
    outputs: Arrays
    parameters: tuple[str, ...] = ()
    gradients: Arrays = field(default_factory=_none)
    settings: Mapping[str, Any] = field(default_factory=_none)
    function: bool = False
    line: str = ""

    @property
    def name(self) -> str:
        """Path, function name, and number of the call where there are several."""
        shown = self.path or "(the model)"
        if self.function:
            shown += f": {self.kind}"
        return shown if self.number == 1 else f"{shown} (call {self.number})"


Calls = tuple[Call, ...]
"""The calls of one forward pass in the order in which they ended: inner calls before the enclosing one."""

Swap = Callable[[Call], Mapping[str, Array] | None]
"""Receives each call as it ends; returns outputs that replace its own for later calls, or None."""


@dataclass(slots=True)
class Again:
    """Repeats part of a forward pass with different parameters; a side may repeat all of it instead.

    Attributes:
        first: index of the first repeated call, which includes all enclosing calls; 0 for every call.
        last: index of the last call needed; None for the end.
        past: values that a full pass left for later partial ones, in the side's own form.
    """

    first: int = 0
    last: int | None = None
    past: Any = None


@dataclass(frozen=True, slots=True)
class Stop:
    """A place in a training step where a tensor loses its gradient.

    Attributes:
        path: of the module or layer that contains it; "" for the model.
        kind: the function that stops it, such as "detach".
        number: of the place among those of this kind in the module, from 1.
        value: of the tensor; None where there are several tensors.
    """

    path: str
    kind: str
    number: int
    value: Array | None

    @property
    def name(self) -> str:
        """Path, kind, and number where there are several."""
        shown = f"{self.path or '(the model)'}: {self.kind}"
        return shown if self.number == 1 else f"{shown} (call {self.number})"


Open = Callable[[Stop], bool]
"""Receives each place where a tensor loses its gradient; whether to keep the gradient there."""

Inside = Callable[[str], bool]
"""Receives the path of a module or layer; whether to list the functions called in it."""


def nowhere(_: str) -> bool:
    """List no function."""
    return False


def everywhere(_: str) -> bool:
    """List every function."""
    return True


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with public names whose values are numbers, strings, booleans or tuples of them.

    Args:
        settings: name -> any value; a slice becomes its source text.
    """
    return {name: _frozen(value) for name, value in settings.items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return value is None or isinstance(value, bool | int | float | str | slice | type(...))


def _frozen(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_frozen(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, slice):
        start, stop, step = value.start, value.stop, value.step  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        parts: list[Any] = [start, stop] if step is None else [start, stop, step]
        return ":".join("" if part is None else str(part) for part in parts)
    return "..." if value is ... else value
