"""What happened inside a model: every call of a module or layer, with what went in and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .trace import Array, Arrays


def _none() -> dict[str, Array]:
    return {}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one module or layer in one forward pass.

    Attributes:
        index: order in which the call was entered, from 0; a trace lists calls in the order in which they ended.
        parent: index of the call it was made in; None for the model itself.
        path: of the module or layer, in the side's words; "" for the model.
        kind: the nearest class of the framework's own that it is or derives from.
        number: of the call among those of this path, from 1.
        inputs: what went in, by position ("0", "1") or keyword, deeper ones joined by dots.
        outputs: what came out, by name ("output" for a lone one).
        parameters: canonical paths of the parameters and buffers that the module itself holds.
        gradients: of the total loss with respect to the outputs, by the same names; only those that were asked for
            and exist.
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

    @property
    def name(self) -> str:
        """Path, and which call of it where there are several."""
        shown = self.path or "(the model)"
        return shown if self.number == 1 else f"{shown} (call {self.number})"


Calls = tuple[Call, ...]
"""The calls of one forward pass in the order in which they ended: inner ones before the one they were made in."""

Swap = Callable[[Call], Mapping[str, Array] | None]
"""Told of each call as it ends; returns the outputs that those after it shall see instead, or None."""
