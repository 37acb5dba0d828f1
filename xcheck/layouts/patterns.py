"""Layouts written as patterns: "(h d) i -> i h d" turns (heads * size, inputs) into (inputs, heads, size).

Left of the arrow are the axes of the PyTorch array, right of it those of the Keras array, each a letter or a word.
Axes in parentheses are merged into one, the first one varying slowest. `1` is an axis of one element, `...` stands for
any other axes in the same order. On the right, `~a` is a reversed axis, and `g@102` consists of three blocks with the
second one first. Sizes follow from the two shapes; `h=4` sets one that does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..records.trace import Array

Shape = tuple[int, ...]

_AXIS = re.compile(r"(~?)([a-z_]\w*)(?:=(\d+))?(?:@(\d+))?")
_TOKEN = re.compile(r"\(([^()]*)\)|(\S+)")


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    backwards: bool = False
    order: tuple[int, ...] = ()


Groups = tuple[tuple[_Axis, ...], ...]


class Undetermined(ValueError):
    """A pattern fits two shapes, but they do not determine the sizes of all axes.

    Attributes:
        axes: names of the axes without a size.
    """

    def __init__(self, message: str, axes: Sequence[str]) -> None:
        super().__init__(message)
        self.axes = tuple(axes)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern.

    Attributes:
        text: as written.
        torch, keras: the axes of each side, grouped; a group without axes has one element.
        sizes: set in the pattern.
    """

    text: str
    torch: Groups
    keras: Groups
    sizes: tuple[tuple[str, int], ...] = ()

    def forward(self, array: Array, keras_shape: Shape) -> Array:
        """A PyTorch array in the Keras layout.

        Raises:
            ValueError: the shapes do not fit, or leave a size open.
        """
        sizes, torch, keras = self._solved(array.shape, keras_shape)
        split = array.reshape([sizes[a.name] for a in torch])
        at = {a.name: i for i, a in enumerate(torch)}
        moved = split.transpose([at[a.name] for a in keras])
        for i, axis in enumerate(keras):
            if axis.order:
                moved = np.take(moved, axis.order, axis=i)
            if axis.backwards:
                moved = np.flip(moved, i)
        return moved.reshape(keras_shape)

    def inverse(self, array: Array, torch_shape: Shape) -> Array:
        """A Keras array in the PyTorch layout.

        Raises:
            ValueError: the shapes do not fit, or leave a size open.
        """
        sizes, torch, keras = self._solved(torch_shape, array.shape)
        split = array.reshape([sizes[a.name] for a in keras])
        for i, axis in enumerate(keras):
            if axis.backwards:
                split = np.flip(split, i)
            if axis.order:
                split = np.take(split, np.argsort(axis.order), axis=i)
        at = {a.name: i for i, a in enumerate(keras)}
        return split.transpose([at[a.name] for a in torch]).reshape(torch_shape)

    def order(self, torch_shape: Shape, keras_shape: Shape) -> tuple[tuple[int, int, bool, tuple[int, ...]], ...]:
        """A canonical form of the transform between two shapes; equal for patterns with the same effect.

        Returns:
            For each run of axes of more than one element that stay adjacent, in Keras order: its position in PyTorch,
            its size, whether it is reversed, and the order of its blocks.

        Raises:
            ValueError: the shapes do not fit.
        """
        sizes, torch, keras = self._solved(torch_shape, keras_shape)
        at = {a.name: i for i, a in enumerate(a for a in torch if sizes[a.name] > 1)}
        runs: list[tuple[int, int, bool, tuple[int, ...]]] = []
        end = -1
        for axis in keras:
            if axis.name not in at:
                continue
            plain = not axis.backwards and not axis.order
            if plain and end == at[axis.name] and not runs[-1][2] and not runs[-1][3]:
                first, size, _, _ = runs[-1]
                runs[-1] = (first, size * sizes[axis.name], False, ())
            else:
                runs.append((at[axis.name], sizes[axis.name], axis.backwards, axis.order))
            end = at[axis.name] + 1 if plain else -1
        places = {first: i for i, (first, *_) in enumerate(sorted(runs))}
        return tuple((places[first], *rest) for first, *rest in runs)  # pyright: ignore[reportReturnType]

    def _solved(self, torch_shape: Shape, keras_shape: Shape) -> tuple[dict[str, int], list[_Axis], list[_Axis]]:
        """The size of every axis, and the axes of both sides in order."""
        torch, keras = _expanded(self.torch, torch_shape), _expanded(self.keras, keras_shape)
        sizes = dict(self.sizes) | {a.name: len(a.order) for group in keras for a in group if a.order}
        if sum(map(len, torch)) != sum(map(len, keras)):
            raise ValueError(f"{self.text} does not fit {torch_shape} and {keras_shape}")
        equations = [*zip(torch, torch_shape, strict=True), *zip(keras, keras_shape, strict=True)]
        for _ in range(len(equations) + 1):
            for group, length in equations:
                unknown = [a.name for a in group if a.name not in sizes]
                known = math.prod(sizes[a.name] for a in group if a.name in sizes)
                if len(unknown) == 1 and known and length % known == 0:
                    sizes[unknown[0]] = length // known
                elif not unknown and known != length:
                    raise ValueError(f"{self.text} does not fit {torch_shape} and {keras_shape}")
        flat = [[a for group in side for a in group] for side in (torch, keras)]
        undetermined = [a.name for a in flat[0] if a.name not in sizes]
        if undetermined:
            raise Undetermined(
                f"{self.text}: the shapes {torch_shape} and {keras_shape} do not determine the size of "
                f"{undetermined[0]}",
                undetermined,
            )
        return sizes, flat[0], flat[1]


def _expanded(groups: Groups, shape: Shape) -> Groups:
    """Replace `...` by the remaining axes of the shape."""
    ellipsis = next((i for i, group in enumerate(groups) if group and group[0].name == "..."), None)
    if ellipsis is not None:
        count = len(shape) - len(groups) + 1
        if count < 1:
            raise ValueError(f"{len(shape)} axes are too few for the pattern")
        groups = (*groups[:ellipsis], *((_Axis(f"...{i}"),) for i in range(count)), *groups[ellipsis + 1 :])
    if len(groups) != len(shape):
        raise ValueError(f"the pattern has {len(groups)} axes, the array {len(shape)}")
    return groups


@cache
def parse_pattern(text: str) -> Pattern:
    """Parse a pattern.

    Raises:
        ValueError: the text is not a pattern.
    """
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError(f"{text!r} has no arrow")
    sizes: dict[str, int] = {}
    torch, keras = _side(left, sizes), _side(right, sizes)
    names = [sorted(a.name for group in side for a in group) for side in (torch, keras)]
    if names[0] != names[1]:
        raise ValueError(f"{text!r} has different axes left and right: {' '.join(names[0])}, {' '.join(names[1])}")
    if len(set(names[0])) != len(names[0]):
        raise ValueError(f"{text!r} has an axis twice on one side")
    if any(a.backwards or a.order for group in torch for a in group):
        raise ValueError(f"{text!r} has ~ or @ on the left; they belong on the right")
    return Pattern(text.strip(), torch, keras, tuple(sizes.items()))


def reorders(text: str) -> bool:
    """Whether the parts of a Keras axis are in a different order than in PyTorch.

    Raises:
        ValueError: the text is not a pattern.
    """
    pattern = parse_pattern(text)
    names = [axis.name for group in pattern.torch for axis in group]
    for group in pattern.keras:
        positions = [names.index(axis.name) for axis in group]
        if any(axis.backwards or axis.order for axis in group) or positions != list(
            range(min(positions, default=0), max(positions, default=-1) + 1)
        ):
            return True
    return False


def _side(text: str, sizes: dict[str, int]) -> Groups:
    groups: list[tuple[_Axis, ...]] = []
    for token in _TOKEN.finditer(text):
        words = token[1].split() if token[1] is not None else [token[2]]
        groups.append(tuple(_axis(word, sizes) for word in words if word != "1"))
    return tuple(groups)


def _axis(word: str, sizes: dict[str, int]) -> _Axis:
    if word == "...":
        return _Axis(word)
    match = _AXIS.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is not an axis")
    backwards, name, size, order = match.groups()
    if size:
        sizes[name] = int(size)
    blocks = tuple(int(digit) for digit in order or "")
    if sorted(blocks) != list(range(len(blocks))):
        raise ValueError(f"{word!r} is not an order of blocks")
    return _Axis(name, bool(backwards), blocks)
