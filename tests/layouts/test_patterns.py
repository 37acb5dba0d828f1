"""Layouts as patterns: what they mean, and what is none."""

import numpy as np
import pytest

from xcheck.layouts.patterns import parse_pattern, reorders


def numbered(*shape: int) -> np.ndarray:
    return np.arange(float(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    ("text", "torch_shape", "keras_shape", "by_hand"),
    [
        ("o i -> i o", (2, 3), (3, 2), lambda t: t.T),
        ("(h d) i -> i h d", (6, 5), (5, 2, 3), lambda t: t.reshape(2, 3, 5).transpose(2, 0, 1)),
        ("o i ... -> ... i o", (4, 3, 2, 5), (2, 5, 3, 4), lambda t: t.transpose(2, 3, 1, 0)),
        ("(c m) 1 ... -> ... c m", (6, 1, 4), (4, 3, 2), lambda t: t.reshape(3, 2, 4).transpose(2, 0, 1)),
        ("a b -> a ~b", (2, 3), (2, 3), lambda t: t[:, ::-1]),
        ("o i h w -> ~h ~w i o", (4, 3, 2, 5), (2, 5, 3, 4), lambda t: t.transpose(2, 3, 1, 0)[::-1, ::-1]),
        ("(g h) -> (g@102 h)", (6,), (6,), lambda t: t[[2, 3, 0, 1, 4, 5]]),
        ("(g h) i -> i g@3012 h", (8, 3), (3, 4, 2), lambda t: t.reshape(4, 2, 3)[[3, 0, 1, 2]].transpose(2, 0, 1)),
        ("(h=2 d) i -> i (d h)", (6, 5), (5, 6), lambda t: t.reshape(2, 3, 5).transpose(2, 1, 0).reshape(5, 6)),
        ("a -> 1 a 1", (3,), (1, 3, 1), lambda t: t.reshape(1, 3, 1)),
    ],
)
def test_a_pattern_means_what_the_same_thing_by_hand_means(text, torch_shape, keras_shape, by_hand):
    pattern, torch = parse_pattern(text), numbered(*torch_shape)
    there = pattern.forward(torch, keras_shape)
    assert np.array_equal(there, by_hand(torch))
    assert np.array_equal(pattern.inverse(there, torch_shape), torch)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("transpose", "no arrow"),
        ("o i -> i k", "different axes left and right"),
        ("o o -> o o", "twice"),
        ("~o i -> i o", "on the left"),
        ("o i -> i o@11", "not an order of blocks"),
        ("o I -> I o", "is not an axis"),
        ("o i -> i o=x", "is not an axis"),
    ],
)
def test_what_is_no_pattern_says_why(text, words):
    with pytest.raises(ValueError, match=words):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("text", "torch_shape", "keras_shape"),
    [
        ("o i -> i o", (2, 3), (2, 3)),
        ("o i -> i o", (2, 3, 4), (4, 3, 2)),
        ("(h d) i -> i (d h)", (6, 5), (5, 6)),  # 2 by 3 or 3 by 2
        ("(h=4 d) i -> i h d", (6, 5), (5, 4, 2)),
        ("a 1 -> a", (3, 2), (6,)),
        ("o i ... -> ... i o", (4, 3), (3, 4)),
        ("o i ... -> ... i o", (4, 3, 2), (2, 2, 3, 4)),
    ],
)
def test_a_pattern_refuses_shapes_that_it_does_not_fit_or_that_leave_a_size_open(text, torch_shape, keras_shape):
    pattern = parse_pattern(text)
    with pytest.raises(ValueError):  # noqa: PT011 - the message is told by the one who asks for the layout
        pattern.forward(numbered(*torch_shape), keras_shape)
    with pytest.raises(ValueError):  # noqa: PT011
        pattern.inverse(numbered(*keras_shape), torch_shape)


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("a b -> b a", False),
        ("(h d) i -> i h d", False),
        ("i h d -> (h d) i", False),
        ("b a 1 -> a b", False),
        ("o (c p) -> (p c) o", True),
        ("a b c d -> (c d b) a", True),
        ("(g b) a 1 -> a (g@10 b)", True),
        ("a b -> ~a b", True),
    ],
)
def test_a_pattern_that_puts_the_parts_of_an_axis_in_another_order_says_so(text, turned):
    assert reorders(text) is turned
