"""Pairs of the inputs and outputs of two files, with their layouts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import FileError
from ..records.trace import Array
from .runtime import Port

MOST_INPUTS = 6
"""Largest number of inputs of which every order is tried."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """One input or output that both files have.

    Attributes:
        left, right: as declared by each file.
        layout: from left to right: "identity", "channels last" for (N, C, ...) to (N, ..., C), or "channels first".
    """

    left: Port
    right: Port
    layout: str = "identity"

    def to_right(self, array: Array) -> Array:
        """An array of the left file in the layout of the right one."""
        return moved(array, self.layout)

    def both(self) -> Port:
        """The left port with the sizes that either file fixes."""
        back = {"identity": "identity", "channels last": "channels first", "channels first": "channels last"}
        right = _moved_shape(self.right.shape, back[self.layout])
        sizes = [m if isinstance(m, int) else n for m, n in zip(self.left.shape, right, strict=True)]
        return replace(self.left, shape=tuple(sizes))


def moved(array: Array, layout: str) -> Array:
    """An array with its channel axis, the second or the last one, moved as the layout states."""
    if layout == "identity":
        return array
    return np.moveaxis(array, 1, -1) if layout == "channels last" else np.moveaxis(array, -1, 1)


def _moved_shape(shape: tuple[int | str | None, ...], layout: str) -> tuple[int | str | None, ...]:
    if layout == "identity":
        return shape
    if layout == "channels last":
        return (shape[0], *shape[2:], shape[1])
    return (shape[0], shape[-1], *shape[1:-1])


def layout_between(left: Port, right: Port) -> str | None:
    """The layout that turns one declared shape into the other; None if there is none."""
    kinds = [np.dtype(port.dtype).kind for port in (left, right)]
    if kinds[0] != kinds[1] or len(left.shape) != len(right.shape):
        return None
    for layout in ("identity", "channels last", "channels first") if len(left.shape) > 2 else ("identity",):
        pairs = zip(_moved_shape(left.shape, layout), right.shape, strict=True)
        if all(m == n or not isinstance(m, int) or not isinstance(n, int) for m, n in pairs):
            return layout
    return None


def paired(left: Sequence[Port], right: Sequence[Port], what: str) -> list[Pairing]:
    """The ports of two files: by name if the names are equal, else in order, else in the first order that fits.

    Args:
        left, right: inputs, or outputs.
        what: "inputs" or "outputs", for the message.

    Raises:
        FileError: they do not fit.
    """
    if len(left) == len(right):
        by_name = {port.name: port for port in right}
        if by_name.keys() == {port.name for port in left}:
            orders = [[by_name[port.name] for port in left]]
        else:
            orders = [list(right)]
            orders += [list(o) for o in itertools.permutations(right)][1:] if len(right) <= MOST_INPUTS else []
        for order in orders:
            layouts = [layout_between(*ports) for ports in zip(left, order, strict=True)]
            if None not in layouts:
                return [Pairing(a, b, layout or "") for a, b, layout in zip(left, order, layouts, strict=True)]
    raise FileError(
        f"The {what} of the two models do not fit.",
        numbers=f"{_listed(left)} against {_listed(right)}",
        cause="they are exports of different models, or were exported with different arguments",
    )


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(f"{p.name} {p.dtype}({', '.join(str(n or '?') for n in p.shape)})" for p in ports) or "none"
