"""What happened inside a model: every call of a module or layer, with what went in and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .trace import Array, Arrays

LOSS = "(loss)"
"""Path of the call that the loss and the penalties are computed in."""


def _none() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one module or layer in one forward pass, or of one function inside of it.

    Attributes:
        index: order in which the call was entered, from 0; a trace lists calls in the order in which they ended.
        parent: index of the call it was made in; None for the model itself.
        path: of the module or layer, in the side's words; "" for the model. Of a function, that of the module it was
            called in.
        kind: the nearest class of the framework's own that it is or derives from; the name of a function.
        number: of the call among those of this path, from 1; of a function, among those of its name there.
        inputs: what went in, by position ("0", "1") or keyword, deeper ones joined by dots. Of a function without the
            parameters among its arguments.
        outputs: what came out, by name ("output" for a lone one).
        parameters: canonical paths of the parameters and buffers that the module itself holds, or that a function was
            given.
        gradients: of the total loss with respect to the outputs, by the same names; only those that were asked for
            and exist.
        settings: numbers, strings and truth values that the module holds under a public name, or that a function was
            given.
        function: it is one, not a module.
        line: of the user's files that called a function, such as "losses.py:41"; "" where there is none.
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
        """Path, and which call of it where there are several; of a function also what it is."""
        shown = self.path or "(the model)"
        if self.function:
            shown += f": {self.kind}"
        return shown if self.number == 1 else f"{shown} (call {self.number})"


Calls = tuple[Call, ...]
"""The calls of one forward pass in the order in which they ended: inner ones before the one they were made in."""

Swap = Callable[[Call], Mapping[str, Array] | None]
"""Told of each call as it ends; returns the outputs that those after it shall see instead, or None."""


@dataclass(slots=True)
class Again:
    """Makes a forward pass again in part, with other parameters; a side may as well make all of it.

    Attributes:
        first: index of the first call that is made again, with all calls around it; 0 for every call.
        last: index of the call behind which nothing is asked for; None for the end.
        past: what a pass from 0 to the end left for the others, in the side's own form.
    """

    first: int = 0
    last: int | None = None
    past: Any = None


@dataclass(frozen=True, slots=True)
class Stop:
    """A place in a training step where a tensor loses its gradient.

    Attributes:
        path: of the module or layer that it happens in; "" for the model.
        kind: how it is written, such as "detach".
        number: of the place among those of this kind there, from 1.
        value: of the tensor; None where it is more than one.
    """

    path: str
    kind: str
    number: int
    value: Array | None

    @property
    def name(self) -> str:
        """Where it is."""
        shown = f"{self.path or '(the model)'}: {self.kind}"
        return shown if self.number == 1 else f"{shown} (call {self.number})"


Open = Callable[[Stop], bool]
"""Told of each place where a tensor loses its gradient; whether it shall keep it."""

Inside = Callable[[str], bool]
"""Told the path of a module or layer; whether the functions called in it are listed too."""


def nowhere(_: str) -> bool:
    """No function is listed."""
    return False


def everywhere(_: str) -> bool:
    """Every function is listed."""
    return True


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are numbers, strings, truth values or tuples of them, under a public name.

    Args:
        settings: name -> any value; an index such as a slice is shown as it is written.
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
