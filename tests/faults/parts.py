"""Nets as lists of parts, written out in both frameworks: a fault changes the list, or one setting, of one side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Part:
    """One value that a net computes, from the input "x" or from parts before.

    Attributes:
        name: of the value, and of the layer where the part is one.
        kind: a key of `torch_parts.LAYERS` and `keras_parts.LAYERS`, or of `FUNCTIONS` in both.
        inputs: names of what goes in.
        settings: of the layer or function, by the names that both sides read.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def but(self, **settings: Any) -> Part:
        """The part with other settings."""
        return replace(self, settings={**self.settings, **settings})


Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """One side of a training setup.

    Attributes:
        name: of the host.
        form: "image" (B, rows, columns, channels), "vector" or "tokens"; what the net is given.
        shape: of one example. classes: that the last part tells apart, or the width of what it predicts.
        parts: of the net; the last is its output.
        loss, optimizer, step: settings that `training.py` reads.
        rows: of a batch.
    """

    name: str
    form: str
    shape: tuple[int, ...]
    classes: int
    parts: tuple[Part, ...]
    loss: Settings = field(default_factory=dict[str, Any])
    optimizer: Settings = field(default_factory=dict[str, Any])
    step: Settings = field(default_factory=dict[str, Any])
    rows: int = 6

    def part(self, name: str) -> Part:
        """By name."""
        return next(part for part in self.parts if part.name == name)

    def of_kind(self, *kinds: str) -> list[Part]:
        """Every part of these kinds."""
        return [part for part in self.parts if part.kind in kinds]

    def with_part(self, new: Part) -> Setup:
        """With the part of this name replaced."""
        return replace(self, parts=tuple(new if part.name == new.name else part for part in self.parts))

    def behind(self, name: str, new: Part) -> Setup:
        """With one part more, which every reader of another part reads in its place."""
        parts: list[Part] = []
        for part in self.parts:
            moved = part if part.name == new.name else replace(part, inputs=_renamed(part.inputs, name, new.name))
            parts.append(moved)
            if part.name == name:
                parts.append(new)
        return replace(self, parts=tuple(parts))

    def without(self, name: str) -> Setup:
        """With a part left out: what reads it reads its first input."""
        gone = self.part(name)
        kept = [part for part in self.parts if part.name != name]
        return replace(self, parts=tuple(replace(p, inputs=_renamed(p.inputs, name, gone.inputs[0])) for p in kept))


def _renamed(names: Sequence[str], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in names)


def computed(parts: Sequence[Part], x: Any, do: Callable[[Part, list[Any]], Any]) -> Any:
    """The value of the last part."""
    values = {"x": x}
    for part in parts:
        values[part.name] = do(part, [values[name] for name in part.inputs])
    return values[parts[-1].name]


def tables(length: int, width: int) -> np.ndarray:
    """Angles of positions, (length, width)."""
    angles = np.arange(length)[:, None] / 100.0 ** (np.arange(width)[None, :] / width)
    return np.sin(angles)
