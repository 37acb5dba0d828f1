"""Parts of an array, and expressions for them in a weight map: "qkv.weight[0:64]", "a.bias + b.bias".

A part is written like an index. `[0:64]` are rows 0 to 63, `[:, 0:64]` such columns, `[1]` is one row and drops its
axis, `[0/3]` is the first of three equal blocks, and `[0:16 of 48]` takes 16 of every 48.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records.trace import Array
from .patterns import Shape

_CUT = re.compile(r"(?P<row>\d+)|(?P<block>\d+)/(?P<blocks>\d+)|(?P<start>\d+):(?P<stop>\d+)(?: of (?P<every>\d+))?")
_NUMBER = re.compile(r"\d+(\.\d*)?")


@dataclass(frozen=True, slots=True)
class Cut:
    """Which elements of one axis: from `start` to before `stop`, in every group of `every` elements.

    Attributes:
        start, stop: within a group.
        every: size of a group; None if the whole axis is one group.
        drop: remove the axis, which then has one element.
    """

    start: int
    stop: int
    every: int | None = None
    drop: bool = False

    def __str__(self) -> str:
        if self.drop:
            return str(self.start)
        return f"{self.start}:{self.stop}" + (f" of {self.every}" if self.every else "")

    def indices(self, length: int) -> Array:
        """Indices of the selected elements of an axis."""
        groups = np.arange(0, length, self.every or length or 1)
        return (groups[:, None] + np.arange(self.start, self.stop)).reshape(-1)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an array.

    Attributes:
        cuts: one per leading axis, None for a whole axis; () for the whole array.
    """

    cuts: tuple[Cut | None, ...] = ()

    def __str__(self) -> str:
        return f"[{', '.join(':' if cut is None else str(cut) for cut in self.cuts)}]" if self.cuts else ""

    def select(self, array: Array) -> Array:
        """This part of an array."""
        if not self.cuts:
            return array
        return array[self._index(array.shape)].reshape(self.shape(array.shape))

    def fill(self, array: Array, values: Array) -> None:
        """Set this part of an array."""
        sizes = [n if cut is None else cut.indices(n).size for cut, n in self.axes(array.shape)]
        array[self._index(array.shape)] = values.reshape(sizes)

    def shape(self, whole: Shape) -> Shape:
        """Shape of this part of an array."""
        return tuple(n if cut is None else cut.indices(n).size for cut, n in self.axes(whole) if not (cut and cut.drop))

    def axes(self, shape: Shape) -> list[tuple[Cut | None, int]]:
        """The cut and the length of each axis of an array with this shape."""
        cuts = (*self.cuts, *(None,) * (len(shape) - len(self.cuts)))
        return list(zip(cuts, shape, strict=True))

    def _index(self, shape: Shape) -> tuple[Any, ...]:
        axes = self.axes(shape)
        if any(cut and cut.every for cut, _ in axes):
            return np.ix_(*(np.arange(n) if cut is None else cut.indices(n) for cut, n in axes))
        return tuple(slice(None) if cut is None else slice(cut.start, cut.stop) for cut, _ in axes)


WHOLE = Part()


def covered(parts: Iterable[Part], shape: Shape) -> bool:
    """Whether the parts together cover an array of this shape."""
    parts = list(parts)
    if any(not part.cuts for part in parts):
        return True
    axes = [part.axes(shape) for part in parts]
    is_cut = [
        any(cuts[i][0] is not None for cuts in axes) for i in range(len(shape))
    ]  # an axis without cuts counts as one element
    covered_elements = np.zeros(
        [n if cut_of_axis else 1 for n, cut_of_axis in zip(shape, is_cut, strict=True)], np.bool_
    )
    for cuts in axes:
        lengths = zip(cuts, covered_elements.shape, strict=True)
        chosen: list[Array] = [
            np.arange(size) if cut_of_axis is None else cut_of_axis.indices(n) for (cut_of_axis, n), size in lengths
        ]
        covered_elements[np.ix_(*chosen)] = True
    return bool(covered_elements.all())


def rows_left(parts: Iterable[Part], shape: Shape) -> str:
    """The rows that no part covers, as an index such as "[2:4]"; "" if they are not one contiguous run."""
    used = np.zeros(shape[:1], np.bool_)
    for part in parts:
        rows = part.cuts[0] if part.cuts else None
        if rows is None or any(part.cuts[1:]):
            return ""
        used[rows.indices(shape[0])] = True
    free = np.flatnonzero(~used)
    return f"[{free[0]}:{free[-1] + 1}]" if free.size and free[-1] - free[0] + 1 == free.size else ""


def parse_part(text: str, shape: Shape) -> Part:
    """Parse "[...]" as a part of an array of this shape.

    Raises:
        ValueError: it is not a valid part.
    """
    words = [word.strip() for word in text.strip()[1:-1].split(",")]
    if len(words) > len(shape):
        raise ValueError(f"{text} has {len(words)} axes, the array {len(shape)}")
    return Part(
        tuple(None if word == ":" else _cut(word, n) for word, n in zip(words, shape[: len(words)], strict=True))
    )


def _cut(word: str, length: int) -> Cut:
    match = _CUT.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is not of the form 1, 0:64, 0/3 or 0:16 of 48")
    numbers = {name: int(value) for name, value in match.groupdict().items() if value is not None}
    if "row" in numbers:
        cut = Cut(numbers["row"], numbers["row"] + 1, drop=True)
    elif "blocks" in numbers:
        size, remainder = divmod(length, numbers["blocks"] or 1)
        if remainder or not numbers["blocks"]:
            raise ValueError(f"{word}: {length} elements are not {numbers['blocks']} equal blocks")
        cut = Cut(numbers["block"] * size, (numbers["block"] + 1) * size)
    else:
        cut = Cut(numbers["start"], numbers["stop"], numbers.get("every"))
    every = length if cut.every is None else cut.every
    if not 0 <= cut.start < cut.stop <= every or every == 0 or length % every:
        raise ValueError(f"{word} is outside the {length} elements of the axis")
    return cut


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed key or value of a weight map.

    Attributes:
        terms: (path, "[...]" or ""), summed.
        offset: a number added to the sum.
    """

    terms: tuple[tuple[str, str], ...]
    offset: float = 0.0


def read_expression(text: str, known: Callable[[str], bool]) -> Expression:
    """Parse an expression; an existing path is never split.

    Args:
        text: "a.bias + b.bias", "qkv.weight[0:64]", "norm.weight + 1".
        known: whether a path exists.
    """
    if known(text):
        return Expression(((text, ""),))
    words: Sequence[str] = re.split(r" ([+-]) ", text)
    terms: list[tuple[str, str]] = []
    offset = 0.0
    for sign, word in zip(["+", *words[1::2]], words[::2], strict=True):
        word = word.strip()
        if _NUMBER.fullmatch(word):
            offset += float(word) if sign == "+" else -float(word)
        elif sign == "-":
            return Expression(((text, ""),))
        elif known(word) or not word.endswith("]"):
            terms.append((word, ""))
        else:
            path, bracket, part = word.partition("[")
            terms.append((path, bracket + part))
    return Expression(tuple(terms), offset) if terms else Expression(((text, ""),))
