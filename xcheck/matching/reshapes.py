"""The ways to convert an array of one shape to a different shape, and the ways to slice it, enumerated by shape.

Used for layer kinds that `kinds.py` does not know. A layout that fits the shapes is only a candidate: values decide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache

from ..layouts import LAYOUTS, Layout, pattern_layout
from ..layouts.parts import Cut, Part
from ..layouts.patterns import Shape, parse_pattern

MOST_AXES = 6
"""With more axes than this, no orders are tried."""

MOST = 40
"""At most this many layouts of two shapes are listed."""

BLOCKS = (4, 3, 2)
"""Numbers of gates of a recurrent cell; their order may differ."""

Groups = tuple[tuple[int, ...], ...]


@cache
def layouts_between(torch_shape: Shape, keras_shape: Shape) -> tuple[Layout, ...]:
    """Every order of axes, with axes split or merged, that converts one shape to the other; the usual ones first.

    Args:
        torch_shape, keras_shape: with the same number of elements, otherwise there is none.
    """
    named = {_order(layout, torch_shape, keras_shape): layout for layout in reversed(LAYOUTS.values())}
    found: dict[str, Layout] = {}
    for text in itertools.islice(_patterns(torch_shape, keras_shape), MOST):
        order = parse_pattern(text).order(torch_shape, keras_shape)
        layout = LAYOUTS["identity"] if torch_shape == keras_shape and len(order) <= 1 else named.get(order)
        layout = layout or pattern_layout(text, text, text)
        found.setdefault(layout.name, layout)
    return tuple(found.values())


def _order(layout: Layout, torch_shape: Shape, keras_shape: Shape) -> object:
    if layout.pattern is None or not layout.fits(torch_shape, keras_shape):
        return None
    return parse_pattern(layout.pattern).order(torch_shape, keras_shape)


def _patterns(torch_shape: Shape, keras_shape: Shape) -> Iterator[str]:
    torch, keras = [n for n in torch_shape if n > 1], [n for n in keras_shape if n > 1]
    if math.prod(torch_shape) != math.prod(keras_shape) or max(len(torch), len(keras)) > MOST_AXES:
        return
    split = len(torch) <= len(keras)  # which side has the finer axes
    coarse, fine = (torch, keras) if split else (keras, torch)
    for groups in _groupings(coarse, fine):
        flat = tuple((i,) for i in range(len(fine)))
        left, right = (groups, flat) if split else (flat, groups)
        yield f"{_written(left, torch_shape)} -> {_written(right, keras_shape)}"


def _groupings(coarse: Sequence[int], fine: Sequence[int]) -> Iterator[Groups]:
    """Every way to merge the fine axes into the coarse ones; those that keep the order of the axes come first."""

    def assigned(at: int, left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if at == len(fine):
            if all(n == 1 for n in left):
                yield ()
            return
        for i, n in enumerate(left):
            if n % fine[at] == 0:
                for rest in assigned(at + 1, (*left[:i], n // fine[at], *left[i + 1 :])):
                    yield (i, *rest)

    turned: list[Groups] = []
    for of in assigned(0, tuple(coarse)):
        members = [[j for j, i in enumerate(of) if i == axis] for axis in range(len(coarse))]
        first, *others = itertools.product(*(itertools.permutations(m) for m in members))
        yield first
        turned += others
    yield from turned


def _written(groups: Groups, shape: Shape) -> str:
    """One side of a pattern: its axes by letters, axes of one element as 1."""
    waiting = iter(groups)
    words: list[str] = []
    for n in shape:
        letters = [_LETTERS[i] for i in next(waiting)] if n > 1 else ["1"]
        words.append(letters[0] if len(letters) == 1 else f"({' '.join(letters)})")
    return " ".join(words)


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def turned(layout: Layout, torch_shape: Shape, keras_shape: Shape) -> Iterator[Layout]:
    """The rarer variants of a layout: reversed spatial axes, gates in a different order.

    Args:
        layout: one that fits.
        torch_shape, keras_shape: of the arrays.
    """
    text = layout.pattern or next(_patterns(torch_shape, keras_shape), "")
    left, _, right = text.partition(" -> ")
    axes = right.split()
    if not text or "..." in text or "(" in right:
        return
    if len(keras_shape) > 2:
        words = [*(f"~{a}" if a != "1" else a for a in axes[:-2]), *axes[-2:]]
        if words != axes:
            yield _variant(f"{left} -> {' '.join(words)}")
    last = axes[-1] if axes else "1"
    length = math.prod(keras_shape[len(axes) - 1 :])
    for blocks in BLOCKS:
        if last != "1" and last in left.split() and length % blocks == 0 and length > blocks:
            new = " ".join(f"(g {a})" if a == last else a for a in left.split())
            for order in itertools.permutations(range(blocks)):
                if order != tuple(range(blocks)):
                    digits = "".join(map(str, order))
                    yield _variant(f"{new} -> {' '.join([*axes[:-1], f'(g@{digits} {last})'])}")


KERNELS = {"conv": ("o i {}", "{} i o"), "conv_transpose": ("i o {}", "{} o i"), "depthwise": ("(c m) 1 {}", "{} c m")}
"""Layouts of kernels, with room for their spatial axes."""


def space_exchanged(layout: Layout, torch_shape: Shape, keras_shape: Shape) -> Iterator[Layout]:
    """A layout of a kernel with its spatial axes in a different order: the port stores images as (time, frequency).

    Args:
        layout: the one that the layer kinds promise.
        torch_shape, keras_shape: of the arrays.
    """
    if layout.name not in KERNELS or len(torch_shape) < 4:
        return
    left, right = KERNELS[layout.name]
    axes = "xyz"[: len(torch_shape) - 2]
    for order in itertools.islice(itertools.permutations(axes), 1, None):
        found = _variant(f"{left.format(' '.join(axes))} -> {right.format(' '.join(order))}")
        if found.fits(torch_shape, keras_shape):
            yield found


def _variant(text: str) -> Layout:
    return pattern_layout(text, text, text)


def cuts(whole: Shape, pieces: Sequence[Shape]) -> Iterator[tuple[Part, ...]]:
    """Every way to slice an array into parts of the sizes of the pieces, in their order.

    Along each axis: consecutive blocks, and, if the pieces have heads, blocks interleaved by head.

    Args:
        whole: shape of the array.
        pieces: shapes of the parts on the other side.
    """
    sizes = [math.prod(shape) for shape in pieces]
    if sum(sizes) != math.prod(whole) or len(pieces) < 2:
        return
    for axis, length in enumerate(whole):
        if any(size * length % sum(sizes) for size in sizes):
            continue
        lengths = [size * length // sum(sizes) for size in sizes]
        before: tuple[Cut | None, ...] = (None,) * axis
        if min(lengths) < 1:
            continue
        ends = list(itertools.accumulate(lengths))
        starts = [0, *ends[:-1]]
        rows = length == len(pieces)
        spans = list(zip(starts, ends, strict=True))
        yield tuple(Part((*before, Cut(a, b, drop=rows))) for a, b in spans)
        shared = math.gcd(*lengths)
        for groups in sorted({n for shape in pieces for n in shape if n > 1 and shared % n == 0}):
            yield tuple(Part((*before, Cut(a // groups, b // groups, length // groups))) for a, b in spans)
