"""Measures of two arrays, against the same formulas written out plainly."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcheck.numerics import blocks, compare
from xcheck.numerics.blocks import CHUNK, PART
from xcheck.numerics.compare import METRICS, Measure, masked, measure, nonfinite, rms, structure
from xcheck.numerics.own_noise import furthest

# float32 numbers and integers: their squares neither overflow nor vanish in float64
NUMBERS = st.integers(-9, 9).map(float) | st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=6)


@st.composite
def couples(draw) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    t = draw(hnp.arrays(np.float64, shape, elements=NUMBERS))
    k = draw(hnp.arrays(np.float64, shape, elements=NUMBERS))
    keep = draw(hnp.arrays(np.bool_, shape))
    return t, np.where(keep, t, k)


def plain(t: np.ndarray, k: np.ndarray, floor: float = 0.0) -> dict[str, float]:
    """The definitions, in one line each and in no bounded memory."""
    scale = max(math.sqrt(np.mean(t**2)), floor)
    gap = np.abs(k - t)
    rows = [
        math.sqrt(np.mean(np.take(gap, i, axis) ** 2)) for axis in range(t.ndim) for i in range(t.shape[axis])
        if t.shape[axis] > 1
    ]  # fmt: skip
    whole = math.sqrt(np.mean(gap**2))
    return {
        "norm": whole / scale,
        "row": max(rows, default=whole) / scale if t.ndim > 1 else whole / scale,
        "element": gap.max() / scale,
        "required_tolerance": (gap / (scale + np.abs(t))).max(),
    }


@settings(max_examples=60, deadline=None)
@given(couples(), st.sampled_from([0.0, 1e-3, 50.0]))
@example((np.array(2.0), np.array(3.0)), 0.0)
@example((np.ones((1, 1, 4)), np.arange(4.0).reshape(1, 1, 4)), 0.0)
def test_the_measures_are_those_of_their_definitions(couple, floor):
    t, k = couple
    assume(t.any() or floor)
    found = measure(t, k, floor)
    for name, value in plain(t, k, floor).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12, abs=0), name
    assert found.norm <= found.row * (1 + 1e-12)
    assert found.row <= found.element * (1 + 1e-12)
    at = found.worst_index
    assert abs(k[at] - t[at]) == np.abs(k - t).max()
    assert (found.reference_value, found.other_value) == (t[at], k[at])


@settings(max_examples=60, deadline=None)
@given(couples(), st.sampled_from([0.0, 1e-3, 50.0]))
def test_the_required_tolerance_is_enough_everywhere_and_no_smaller_one_is(couple, floor):
    t, k = couple
    assume(t.any() or floor)
    needed = measure(t, k, floor).required_tolerance
    gap, whole = np.abs(k - t), max(rms(t), floor) + np.abs(t)
    assert (gap <= needed * (1 + 1e-15) * whole).all()
    if not np.array_equal(t, k):
        assert not (gap <= needed * (1 - 1e-15) * whole).all()
    else:
        assert needed == 0


@settings(max_examples=30, deadline=None)
@given(couples(), st.integers(-60, 60))
def test_a_measure_is_relative_so_a_power_of_two_changes_nothing(couple, power):
    t, k = couple
    assume(t.any())
    left, right = measure(t, k), measure(t * 2.0**power, k * 2.0**power)
    assert [left.get(m) for m in METRICS] == [right.get(m) for m in METRICS]
    assert left.required_tolerance == right.required_tolerance


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
def test_one_wrong_element_is_found_on_either_side_of_a_chunk_boundary(size):
    t = np.random.default_rng(size).standard_normal(size)
    for at in sorted({0, min(CHUNK - 1, size - 1), min(CHUNK, size - 1), size - 1}):
        k = t.copy()
        k[at] += 1e-9
        found = measure(t, k)
        assert found.worst_index == (at,)
        assert found.element == pytest.approx(1e-9 / math.sqrt(np.mean(t**2)), rel=1e-6)
        assert found.norm == pytest.approx(found.element / math.sqrt(size), rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 7, 24, 1000])
@pytest.mark.parametrize("part", [1, 5, 1000])
@pytest.mark.parametrize("shape", [(24,), (4, 6), (2, 12), (3, 2, 4), (1, 24)])
def test_the_size_of_a_chunk_or_of_the_part_of_a_thread_changes_no_measure(monkeypatch, chunk, part, shape):
    rng = np.random.default_rng(0)
    t, k = rng.standard_normal(shape), rng.standard_normal(shape)
    whole = measure(t, k, 0.1)
    for module in (blocks, compare):
        monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(blocks, "PART", part)
    found = measure(t, k, 0.1)
    assert found.worst_index == whole.worst_index
    for name in (*METRICS, "required_tolerance"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-14)


def test_no_number_depends_on_how_many_threads_compare(monkeypatch):
    rng = np.random.default_rng(0)
    t = rng.standard_normal((3, PART + 7), np.float32)
    k = t * np.float32(1 + 2**-20)
    several = measure(t, k), nonfinite(t, k), rms(t)
    assert several[0].row > 0
    monkeypatch.setattr(blocks, "threads_for", lambda parts: 1)
    assert (measure(t, k), nonfinite(t, k), rms(t)) == several


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_comparing_large_arrays_takes_little_memory(dtype):
    t = np.ones((2048, 4096), dtype)
    k = t + np.finfo(dtype).eps
    tracemalloc.start()
    try:
        measure(t, k)
        nonfinite(t, k)
        furthest(t, k, [(t, k)], 24.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < t.nbytes / 2


@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[::-1, ::2], lambda a: np.asfortranarray(a), lambda a: np.moveaxis(a[None], 0, 2)],
)
def test_arrays_that_are_not_contiguous_are_read_in_their_own_order(view):
    rng = np.random.default_rng(1)
    t, k = rng.standard_normal((5, 8)), rng.standard_normal((5, 8))
    found, copied = measure(view(t), view(k)), measure(view(t).copy(order="C"), view(k).copy(order="C"))
    assert found == copied
    assert view(k)[found.worst_index] == found.other_value


def test_one_wrong_row_of_many_does_not_hide_in_the_norm():
    t = np.random.default_rng(2).standard_normal((1000, 8))
    k = t.copy()
    k[437] += 1e-9
    found = measure(t, k)
    assert found.worst_index[0] == 437
    assert found.row == pytest.approx(found.norm * math.sqrt(1000), rel=1e-6)
    columns = measure(t.T, k.T)
    assert columns.row == pytest.approx(found.row, rel=1e-12)


def test_a_permutation_of_the_elements_is_a_difference_of_full_size():
    t = np.random.default_rng(3).standard_normal((6, 6))
    k = np.random.default_rng(4).permutation(t.reshape(-1)).reshape(6, 6)
    assert k.mean() == pytest.approx(t.mean())
    assert measure(t, k).norm > 0.5
    assert measure(t, t.T).norm > 0.5


def test_the_floor_is_a_least_scale_and_no_more():
    t, k = np.array([3e-12, 4e-12]), np.array([3e-12, 5e-12])
    assert measure(t, k, floor=2.0).element == pytest.approx(0.5e-12, rel=1e-3)
    assert measure(t, k, floor=1e-20) == measure(t, k)


def test_equal_arrays_are_at_no_distance_even_where_the_scale_is_zero():
    zero = np.zeros((2, 3))
    assert measure(zero, zero) == Measure(0.0, 0.0, 0.0, 0.0, (0, 0), 0.0, 0.0)


@pytest.mark.parametrize("k", [np.array([1.0, 1.0]), np.array([0.0, 1.0])])
def test_every_measure_is_infinite_where_the_scale_is_zero_and_the_arrays_differ(k):
    found = measure(np.zeros(2), k)
    assert [found.get(m) for m in METRICS] == [math.inf] * 3
    assert found.required_tolerance == math.inf


@pytest.mark.parametrize("power", [-700, -560, 520, 1000])
def test_numbers_whose_squares_leave_the_range_of_float64_are_measured_all_the_same(power):
    t = np.array([1.0, -1.5, 0.75])
    k = t * np.array([1.0, 1.0 + 2.0**-20, 1.0])
    found, there = measure(t, k), measure(t * 2.0**power, k * 2.0**power)
    assert [there.get(m) for m in METRICS] == pytest.approx([found.get(m) for m in METRICS], rel=1e-12)
    assert there.required_tolerance == pytest.approx(found.required_tolerance, rel=1e-12)
    assert (there.worst_index, there.other_value) == ((1,), k[1] * 2.0**power)


def test_equal_infinities_are_equal_values_and_leave_the_rest_to_be_measured():
    t, k = np.array([np.inf, -np.inf, 3.0, 4.0]), np.array([np.inf, -np.inf, 3.0, 4.5])
    assert nonfinite(t, k) == (0, 0, 0)
    found = measure(t, k)
    assert found.worst_index == (3,)
    assert found.required_tolerance == pytest.approx(0.5 / (math.sqrt(12.5) + 4))


@pytest.mark.parametrize(
    ("t", "k", "counts"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], (0, 0, 0)),
        ([np.nan, 2.0, np.nan], [1.0, 2.0, 3.0], (2, 0, 0)),
        ([1.0, 2.0, 3.0], [np.nan, np.inf, 3.0], (0, 2, 0)),
        ([np.nan, 2.0, 3.0], [np.nan, 2.0, 3.0], (0, 0, 1)),
        ([np.nan, 2.0, 3.0], [np.nan, np.nan, 3.0], (0, 1, 1)),
        ([np.inf, 2.0, 3.0], [-np.inf, 2.0, 3.0], (1, 0, 0)),
        ([np.inf, np.nan, 3.0], [np.nan, np.inf, 3.0], (2, 0, 0)),
        ([np.inf, -np.inf, 3.0], [np.inf, -np.inf, -np.inf], (0, 1, 0)),
    ],
)
def test_values_that_are_not_finite_are_counted_by_side(t, k, counts):
    assert nonfinite(np.array(t), np.array(k)) == counts


def test_integers_and_booleans_are_always_finite():
    assert nonfinite(np.array([1, 2]), np.array([1, 2])) == (0, 0, 0)
    assert measure(np.array([True, False]), np.array([True, True])).worst_index == (1,)


def test_integers_that_float64_cannot_tell_apart_are_told_apart():
    t = np.array([2**53, 5])
    found = measure(t, t + np.array([1, 0]))
    assert found.element > 0
    assert found.worst_index == (0,)


def test_the_root_mean_square_is_that_of_the_finite_elements():
    assert rms(np.array([3.0, 4.0, np.nan, np.inf])) == math.sqrt(12.5)
    assert rms(np.array(-2.0)) == 2.0
    assert rms(np.array([np.nan])) == rms(np.zeros((0, 3))) == 0.0
    big = np.ones(CHUNK + 2)
    big[-1] = np.nan
    assert rms(big) == 1.0


@pytest.mark.parametrize(
    ("t", "k", "words"),
    [
        (np.ones((2, 3)), np.ones((3, 2)), "shape (2, 3) against (3, 2)"),
        (np.ones(3), np.ones((3, 1)), "shape (3,) against (3, 1)"),
        (np.ones(()), np.ones(1), "shape () against (1,)"),
        (np.ones((0, 2)), np.ones((0, 2)), "empty, shape (0, 2)"),
        (np.ones(2), np.ones(2, np.int64), "dtype float64 against int64: one is a float and the other is not"),
        (np.ones(2, complex), np.ones(2, complex), "dtype complex128 against complex128 cannot be measured"),
        (np.array(["a"]), np.ones(1), "dtype <U1 against float64 cannot be measured"),
        (np.ones(2), np.ones(2, np.float32), None),
        (np.ones(2, np.int32), np.ones(2, bool), None),
    ],
)
def test_structure_comes_first_and_says_what_keeps_two_arrays_apart(t, k, words):
    assert structure(t, k) == words


@pytest.mark.parametrize(
    ("t", "k"), [(np.ones(2), np.ones(3)), (np.ones(0), np.ones(0)), (np.ones(2), np.ones((2, 1)))]
)
def test_nothing_is_broadcast(t, k):
    with pytest.raises(ValueError, match="one shape"):
        measure(t, k)


def test_a_mask_keeps_the_positions_that_mean_something():
    array = np.arange(12.0).reshape(2, 3, 2)
    mask = np.array([[True, False, True], [False, False, True]])
    assert np.array_equal(masked(array, mask), [[0, 1], [4, 5], [10, 11]])
    assert masked(array, None) is array
    assert masked(array, np.zeros((2, 3), bool)).size == 0


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 3, 2, 1), (3, 2)])
def test_a_mask_that_does_not_cover_the_first_axes_is_refused(shape):
    with pytest.raises(ValueError, match="does not cover"):
        masked(np.ones((2, 3, 2)), np.ones(shape, bool))
