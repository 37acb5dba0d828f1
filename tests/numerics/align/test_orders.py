"""The order of axes that turns one array into another."""

import numpy as np
import pytest

from xcheck.numerics.align.orders import ABOUT_AS_CLOSE, Order, as_close, closest, orders

ARRAY = np.random.default_rng(0).standard_normal((2, 3, 4, 5))


@pytest.mark.parametrize(
    "other",
    [
        ARRAY,
        ARRAY.transpose(0, 2, 3, 1),
        ARRAY.transpose(2, 0, 1, 3),
        ARRAY.reshape(2, 60),
        ARRAY.transpose(0, 2, 3, 1).reshape(2, 60),
        ARRAY[:, :, None],
    ],
)
def test_an_order_is_found_and_undone(other):
    for source, target in ((ARRAY, other), (other, ARRAY)):
        order = closest(source, target)
        assert order is not None
        np.testing.assert_array_equal(order.apply(source), target)
        np.testing.assert_array_equal(order.inverse().apply(target), source)
        positions = np.arange(0, target.size, 7)
        np.testing.assert_array_equal(source.reshape(-1)[order.at(positions)], target.reshape(-1)[positions])


def test_heads_that_are_merged_behind_the_positions():
    merged = ARRAY.transpose(0, 2, 1, 3).reshape(2, 4, 15)
    order = closest(merged, ARRAY)
    assert order is not None
    np.testing.assert_array_equal(order.apply(merged), ARRAY)


def test_a_reshape_alone_moves_no_number():
    flat, moved = closest(ARRAY, ARRAY.reshape(2, 60)), closest(ARRAY, ARRAY.transpose(0, 2, 3, 1))
    assert flat is not None
    assert moved is not None
    assert (flat.plain, moved.plain) == (True, False)


def test_of_equally_good_ones_the_usual_comes_first():
    same = np.ones((2, 3, 3, 3))
    order = closest(same, same)
    assert order is not None
    assert order.axes == (0, 1, 2, 3)
    assert next(iter(orders((2, 3), (3, 2)))) == Order((2, 3), (3, 2), (0, 1))


def test_it_is_the_closest_where_none_is_exact():
    off = ARRAY.transpose(0, 2, 3, 1) * (1 + 1e-3)
    order = closest(ARRAY, off)
    assert order is not None
    assert order.axes == (0, 2, 3, 1)


def test_arrays_of_other_sizes_have_none():
    assert closest(ARRAY, ARRAY[:1]) is None
    assert list(orders((4,), (3,))) == []


def test_many_axes_are_tried_in_the_usual_orders_only():
    deep = np.arange(2.0**8).reshape((2,) * 8)
    order = closest(deep, np.moveaxis(deep, 1, -1))
    assert order is not None
    assert order.axes == (0, 2, 3, 4, 5, 6, 7, 1)
    assert len(list(orders(deep.shape, deep.shape))) < 10


def test_where_the_numbers_differ_the_usual_order_comes_before_the_closest():
    other = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    order = closest(ARRAY, other, ABOUT_AS_CLOSE)
    assert order is not None
    assert order.axes == (0, 1, 2, 3)
    moved = closest(ARRAY, ARRAY.transpose(0, 2, 3, 1) * (1 + 1e-3), ABOUT_AS_CLOSE)
    assert moved is not None
    assert moved.axes == (0, 2, 3, 1)


def test_an_axis_of_length_one_may_have_come_from_anywhere():
    image = ARRAY[:, :1]
    found = {order.axes for order in as_close(image, image.transpose(0, 2, 3, 1))}
    assert found == {(0, 2, 3, 1)}
    assert len(list(as_close(np.ones((2, 1, 1)), np.ones((2, 1, 1))))) == 2
    assert not list(as_close(ARRAY, ARRAY.reshape(2, 60)))
