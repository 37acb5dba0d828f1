"""The NumPy that a conversion script is made of is what the layouts and parts do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.cli.convert.script import _filling, _index, _sized, _to_keras, _to_torch
from xcheck.layouts import LAYOUTS, layout_named
from xcheck.layouts.parts import parse_part
from xcheck.matching import Piece

SHAPES: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "identity": [((3, 4), (3, 4)), ((), ())],
    "transpose": [((3, 4), (4, 3)), ((1, 4), (4, 1)), ((4, 4), (4, 4))],
    "conv": [
        ((5, 2, 3, 4), (3, 4, 2, 5)),
        ((5, 2, 1, 1), (1, 1, 2, 5)),
        ((5, 2, 3), (3, 2, 5)),
        ((2, 2, 2), (2, 2, 2)),
    ],
    "conv_transpose": [((5, 2, 3, 4), (3, 4, 2, 5)), ((2, 3, 4, 2, 3), (4, 2, 3, 3, 2))],
    "depthwise": [((6, 1, 3, 4), (3, 4, 2, 3)), ((4, 1, 3), (3, 4, 1))],
    "gru_kernel": [((12, 5), (5, 12)), ((3, 5), (5, 3))],
    "gru_bias": [((12,), (12,))],
    "split_heads": [((6, 5), (5, 2, 3)), ((4, 4), (4, 2, 2))],
    "heads_first": [((6, 5), (2, 5, 3))],
    "merge_heads": [((5, 6), (2, 3, 5))],
    "head_bias": [((6,), (2, 3))],
    "split_last": [((5, 6), (5, 2, 3))],
    "merge_first": [((6, 5), (2, 3, 5))],
    "channels_last": [((4,), (1, 1, 4))],
    "(h d) i -> d i ~h": [((6, 5), (3, 5, 2))],
    "a (g=3 b) -> (b g@201) a": [((2, 12), (12, 2))],
}


def test_every_layout_is_tried() -> None:
    assert LAYOUTS.keys() <= SHAPES.keys()


@pytest.mark.parametrize(("name", "torch", "keras"), [(n, t, k) for n, pairs in SHAPES.items() for t, k in pairs])
def test_a_layout_is_written_out(name: str, torch: tuple[int, ...], keras: tuple[int, ...]) -> None:
    layout = layout_named(name)
    assert layout is not None
    x = np.arange(np.prod(torch)).reshape(torch)
    there = eval(f"x{_to_keras(layout, torch, keras)}", {"x": x})
    assert np.array_equal(there, layout.forward(x, keras))
    assert there.shape == keras
    back = eval(f"y{_to_torch(layout, torch, keras)}", {"y": there})
    assert np.array_equal(back, x)
    assert back.shape == torch


def every(start: int, stop: int, size: int, length: int) -> Any:
    return (np.arange(0, length, size)[:, None] + np.arange(start, stop)).reshape(-1)


@pytest.mark.parametrize(
    ("text", "shape"),
    [("[1/3]", (6, 2)), ("[:, 1/2]", (3, 4)), ("[1]", (3, 4)), ("[2:5, 1]", (6, 3)), ("[0:1 of 3]", (6, 2)),
     ("[:, 1:2 of 2]", (3, 4)), ("[1, 0:1 of 2]", (3, 4)), ("[0:1 of 2, 1]", (4, 3)), ("[1, :, 0:1 of 2]", (3, 2, 4))],
)  # fmt: skip
def test_a_part_is_written_out(text: str, shape: tuple[int, ...]) -> None:
    part = parse_part(text, shape)
    piece = Piece(("p",), shape, part=part)
    x = np.arange(np.prod(shape)).reshape(shape)
    read = eval(_sized(f"x[{_index(part, shape)}]", piece), {"x": x, "every": every})
    assert np.array_equal(read, part.select(x))
    wanted, filled = np.zeros_like(x), np.zeros_like(x)
    part.fill(wanted, read)
    exec(f"y[{_index(part, shape)}] = {_filling('v', piece)}", {"y": filled, "v": read, "every": every})
    assert np.array_equal(wanted, filled)
