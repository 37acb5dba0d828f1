"""One quantity, the noise, the verdict."""

import math
from dataclasses import replace

import numpy as np
import pytest

from xcheck.numerics.compare import METRICS, rms
from xcheck.numerics.judge import BROKEN, FLOAT32_EXPLAINS, HIDDEN, Frame, Item, compare_items
from xcheck.numerics.tolerance import CONTRAST, KAPPA
from xcheck.records.result import Check

EPS = 2.0**-52
FRAME = Frame("gradient", "float64", 2, "torch", terms=4)
T = np.array([[3.0, -4.0], [0.5, 2.0]])


def item(other, reference=T, *twins, **more) -> Item:
    return Item("w", "torch.w", "keras/w", reference, other, twins, **more)


def judged(made: Item, frame: Frame = FRAME, floor: float | None = None):
    (found,) = compare_items(frame, [made], floor)
    return found


def test_a_check_says_where_it_stands_and_what_it_compared():
    found = judged(item(T))
    assert (found.phase, found.precision, found.step) == ("gradient", "float64", 2)
    assert (found.name, found.torch, found.keras) == ("w", "torch.w", "keras/w")
    assert (found.verdict, found.error, found.required_tolerance, found.detail) == ("EQUIVALENT", 0.0, 0.0, "")
    assert found.allowed == KAPPA * EPS * 2  # four terms


def test_one_wrong_element_is_different_and_pointed_at():
    k = T.copy()
    k[1, 0] += 1e-12
    found = judged(item(k))
    assert (found.verdict, found.metric, found.worst_index) == ("DIFFERENT", "element", (1, 0))
    assert found.error == pytest.approx(1e-12 / math.sqrt(np.mean(T**2)), rel=1e-3)
    assert found.error > found.allowed
    assert (found.torch_value, found.keras_value) == (0.5, k[1, 0])


def test_the_values_stand_on_their_own_sides_when_keras_is_the_reference():
    k = T + np.array([[0, 0], [0, 1.0]])
    found = judged(item(k), replace(FRAME, reference="keras"))
    assert (found.torch_value, found.keras_value) == (3.0, 2.0)


def test_the_allowance_is_a_sharp_boundary():
    allowed = KAPPA * EPS * 2 * math.sqrt(np.mean(T**2))
    for factor, verdict in ((0.9, "EQUIVALENT"), (1.1, "DIFFERENT")):
        k = T.copy()
        k[1, 0] += factor * allowed
        assert judged(item(k)).verdict == verdict, factor


def test_twins_widen_the_allowance_by_what_they_measured_and_no_further():
    nudge = np.array([[0.0, 1e-9], [0.0, 0.0]])
    for factor, verdict in ((0.9, "EQUIVALENT"), (1.1, "DIFFERENT")):
        found = judged(item(T + factor * KAPPA * nudge, T, T, T - nudge))
        assert found.verdict == verdict, factor


def test_twins_widen_each_ruler_by_itself():
    t = np.ones((100, 100))
    twin, k = t.copy(), t.copy()
    twin[3, 5] += 1e-6
    twin[4, 9] -= 1e-6
    k[50] += 5e-6  # no element is off by more than a twin's could be, a whole row is
    found = judged(item(k, t, twin))
    assert (found.verdict, found.metric) == ("DIFFERENT", "row")
    assert found.worst_index[0] == 50


def test_twins_that_are_missing_or_of_another_shape_measure_nothing():
    k = T + 1e-9
    assert judged(item(k, T, None, np.zeros(3))).verdict == "DIFFERENT"


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
def test_a_twin_that_is_not_a_number_allows_nothing(bad):
    broken = T.copy()
    broken[0, 0] = bad
    assert judged(item(T + 1e-9, T, broken)).verdict == "DIFFERENT"
    assert judged(item(T + 1e-9, T, broken, T)).verdict == "DIFFERENT"


def test_what_an_optimizer_makes_of_a_gradient_may_be_as_far_off_as_that():
    nudge = np.array([[0.0, 1e-13], [0.0, 0.0]])
    scale = math.sqrt(np.mean(T**2))
    rulers = dict.fromkeys(METRICS, 1e-13 / EPS / scale)  # four terms: the gradient may be off by 2 eps
    for off, told, verdict in ((1.9, {}, "DIFFERENT"), (1.9, rulers, "EQUIVALENT"), (2.1, rulers, "DIFFERENT")):
        found = judged(item(T + off * KAPPA * nudge, T, T - nudge, amplification=told))
        assert found.verdict == verdict, (off, told)


HUGE = np.array([1e30, -1e30, 0.5, 1e-9, 0.0])
ROUNDED = HUGE * (1 + EPS)  # what rounding makes of it in a twin


@pytest.mark.parametrize(("at", "off"), [(2, 0.3), (2, 1e-6), (3, 1e-14), (0, 1e24)])
def test_an_element_is_measured_by_its_own_rounding_too(at, off):
    k = HUGE.copy()
    k[at] += off
    found = judged(item(k, HUGE, ROUNDED, ROUNDED))
    assert (found.verdict, found.worst_index) == ("DIFFERENT", (at,))
    assert found.error is not None
    assert found.allowed is not None
    assert found.error > found.allowed
    if at:
        assert found.detail == HIDDEN
    assert judged(item(ROUNDED, HUGE, HUGE * (1 - 2 * EPS))).verdict == "EQUIVALENT"


def test_the_ruler_of_one_element_is_a_sharp_boundary():
    for factor, verdict in ((0.9, "EQUIVALENT"), (1.1, "DIFFERENT")):
        k = HUGE.copy()
        k[2] += factor * KAPPA * CONTRAST * (ROUNDED[2] - HUGE[2])
        assert judged(item(k, HUGE, ROUNDED)).verdict == verdict, factor


def test_an_element_that_rounding_moves_further_is_allowed_more_and_one_that_it_does_not_move_is_left_to_the_others():
    k = HUGE.copy()
    k[[2, 4]] += 0.3  # zero is exact in the twins, and may be a cancellation on the other side
    twin = ROUNDED.copy()
    twin[2] += 1e-8
    assert judged(item(k, HUGE, twin)).verdict == "EQUIVALENT"
    assert judged(item(k, HUGE)).verdict == "EQUIVALENT"


def test_what_has_underflown_on_one_side_is_no_difference():
    tiny = np.array([1.0, 1e-300])
    assert judged(item(np.array([1.0, 0.0]), tiny, tiny * (1 + EPS))).verdict == "EQUIVALENT"


def test_a_size_among_others_of_a_kind_is_no_excuse_either():
    small, large = np.array([1e-15]), np.array([1.0])
    twins = small * (1 + EPS), large * (1 + EPS)
    items = [item(small * 2, small, twins[0]), item(large, large, twins[1])]
    assert [c.verdict.value for c in compare_items(FRAME, items)] == ["DIFFERENT", "EQUIVALENT"]
    healthy = [item(small, small, twins[0]), item(large, large, twins[1])]
    assert {c.verdict.value for c in compare_items(FRAME, healthy)} == {"EQUIVALENT"}


def test_only_twins_that_are_perturbed_in_every_operation_are_such_a_ruler():
    k = HUGE.copy()
    k[2] += 0.3
    assert judged(item(k, HUGE, ROUNDED), replace(FRAME, reference="keras")).verdict == "EQUIVALENT"


def test_cancellation_allows_what_the_larger_numbers_were_rounded_by():
    k = T * (1 + 1e-12)
    assert judged(item(k)).verdict == "DIFFERENT"
    assert judged(item(k, source=1e4 * rms(T))).verdict == "EQUIVALENT"
    floored = judged(item(k, source=1e4 * rms(T)), floor=1e4 * rms(T))
    assert floored.allowed == judged(item(k), floor=1e4 * rms(T)).allowed  # the ruler is as large as the source


def test_where_rounding_alone_moves_it_by_its_whole_size_nothing_is_said():
    found = judged(item(T * 1.5, T, T * 2))
    assert found.verdict == "INCONCLUSIVE"
    assert "rounding error dominates" in found.detail
    assert judged(item(T * 1e6, T, T * 2)).verdict == "DIFFERENT"


@pytest.mark.parametrize(("reference", "other"), [("torch", "keras"), ("keras", "torch")])
def test_what_one_side_lacks_is_different_and_the_side_is_named(reference, other):
    frame = replace(FRAME, reference=reference)
    lost = judged(item(None), frame)
    assert (lost.verdict, lost.detail) == ("DIFFERENT", f"missing only on the {other} side")
    lost = judged(item(T, None), frame)
    assert (lost.verdict, lost.detail) == ("DIFFERENT", f"missing only on the {reference} side")


def test_what_one_side_lacks_and_the_other_has_as_zeros_is_inconclusive():
    assert judged(item(None, np.zeros(2))).verdict == "INCONCLUSIVE"
    assert judged(item(np.zeros(2), None)).verdict == "INCONCLUSIVE"
    assert judged(item(np.array([0.0, np.nan]), None)).verdict == "DIFFERENT"


def test_what_both_sides_lack_was_not_compared():
    found = judged(item(None, None))
    assert (found.verdict, found.error) == ("INCONCLUSIVE", None)
    assert "nothing was compared" in found.detail


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_a_value_that_is_not_finite_on_one_side_names_the_side_the_kind_and_the_count(side, value, word):
    broken = T.copy()
    broken[0] = value
    found = judged(item(T, broken) if side == "torch" else item(broken))
    assert (found.verdict, found.detail) == ("DIFFERENT", f"{word} only on the {side} side, 2 of 4 elements")
    assert found.error is None


def test_nan_on_both_sides_in_the_same_places_was_not_compared():
    broken = T.copy()
    broken[0, 0] = np.nan
    found = judged(item(broken, broken))
    assert found.verdict == "INCONCLUSIVE"
    assert "NaN on both sides, 1 of 4 elements" in found.detail
    worse = broken.copy()
    worse[1, 1] = np.nan
    assert judged(item(worse, broken)).detail == "NaN only on the keras side, 1 of 4 elements"


def test_infinities_that_agree_are_compared_as_values():
    masked = np.array([1.0, -np.inf, 2.0])
    assert judged(item(masked.copy(), masked)).verdict == "EQUIVALENT"
    assert judged(item(masked + 1e-9, masked)).verdict == "DIFFERENT"


def test_another_shape_is_different_even_where_it_could_be_broadcast():
    found = judged(item(T[:, :1]))
    assert (found.verdict, found.detail, found.error) == ("DIFFERENT", "shape (2, 2) against (2, 1)", None)
    assert judged(item(T.T.reshape(-1))).verdict == "DIFFERENT"


def test_empty_arrays_were_not_compared():
    assert judged(item(np.zeros((0, 2)), np.zeros((0, 2)))).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("values", [[1 + 1j, 2.0], ["a", "b"]])
def test_equal_arrays_that_cannot_be_measured_are_inconclusive_and_not_different(values):
    found = judged(item(np.array(values), np.array(values)))
    assert found.verdict == "INCONCLUSIVE"
    assert "cannot be measured" in found.detail


def test_a_quantity_that_is_truly_zero_is_measured_by_the_size_of_the_others():
    zero = item(np.array([1e-17, -1e-17]), np.array([-1e-17, 1e-17]))
    assert judged(zero).verdict == "DIFFERENT"  # alone there is nothing to measure it by
    found = compare_items(FRAME, [zero, item(T), item(T)])
    assert [c.verdict for c in found] == ["EQUIVALENT"] * 3


def test_the_floor_is_the_median_of_the_sizes_that_are_not_zero():
    tiny = item(np.full(2, 1e-6) + 1e-9, np.full(2, 1e-6))
    zeros = [item(np.zeros(2), np.zeros(2))] * 5
    others = [item(np.full(2, s), np.full(2, s)) for s in (10.0, 1000.0)]
    assert compare_items(FRAME, [tiny, *zeros, *others])[0].error == pytest.approx(1e-9 / 10, rel=1e-6)
    assert compare_items(FRAME, [tiny, *others], floor=0.0)[0].error == pytest.approx(1e-3, rel=1e-6)


def test_a_reference_of_zeros_with_one_wrong_element_is_different():
    found = judged(item(np.array([0.0, 1e-30]), np.zeros(2)))
    assert found.verdict == "DIFFERENT"
    assert found.worst_index == (1,)


def test_every_item_has_its_check_in_order():
    wrong = replace(item(T + 1), name="x")
    found = compare_items(FRAME, [item(T), wrong, item(None), wrong])
    assert [(c.name, c.verdict.value) for c in found] == [
        ("w", "EQUIVALENT"),
        ("x", "DIFFERENT"),
        ("w", "DIFFERENT"),
        ("x", "DIFFERENT"),
    ]
    assert compare_items(FRAME, []) == []


# Float32 ---------------------------------------------------------------------------------------------------------

SINGLE = replace(FRAME, precision="float32")
OFF = np.array([[1.0, -1.0], [1.0, 1.0]])


def numeric(other: float, own: float, *responses: float, frame=SINGLE, **more):
    """A float32 check where the sides are off by so much each, and the perturbed runs of the reference too."""
    ours = T + own * OFF
    return judged(item(T + other * OFF, T, ours, *(ours + r * OFF for r in responses), **more), frame)


def test_sides_that_lose_alike_in_float32_are_equivalent():
    found = numeric(1e-5, 1e-5, 1e-8)
    assert (found.verdict, found.allowed, found.detail) == ("EQUIVALENT", KAPPA, "")
    assert found.error == pytest.approx(1.0)
    assert found.precision == "float32"


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("worse", ["torch", "keras"])
def test_the_side_that_loses_more_is_named_with_both_errors(reference, worse):
    errors = {"torch": 1e-5, "keras": 1e-5, worse: 1e-3}
    other = "keras" if reference == "torch" else "torch"
    found = numeric(errors[other], errors[reference], frame=replace(SINGLE, reference=reference))
    assert found.verdict == "NUMERIC"
    assert found.error == pytest.approx(100, rel=1e-6)
    assert found.detail.startswith(f"the {worse} side loses more in float32: ")


def test_one_side_may_lose_kappa_times_more_and_no_more():
    assert numeric(0.99 * KAPPA * 1e-5, 1e-5).verdict == "EQUIVALENT"
    assert numeric(1.01 * KAPPA * 1e-5, 1e-5).verdict == "NUMERIC"
    assert numeric(1e-5, 1.01 * KAPPA * 1e-5).verdict == "NUMERIC"


def test_a_side_that_is_exact_by_luck_makes_no_ratio_infinite():
    assert numeric(1e-7, 0.0).verdict == "EQUIVALENT"
    assert numeric(0.0, 0.0).error == 0.0
    assert numeric(1e-4, 0.0).verdict == "NUMERIC"
    assert numeric(1e-4, 0.0, 0.0, 1e-5).verdict == "EQUIVALENT"  # one rounding error moves it by as much
    assert numeric(1e-4, 0.0, source=1e3).verdict == "EQUIVALENT"


def test_without_a_float32_value_of_the_reference_nothing_is_said():
    for twins in ((), (None,), (np.zeros(3),)):
        assert judged(item(T, T, *twins), SINGLE).verdict == "INCONCLUSIVE"


def test_a_value_that_overflows_in_float32_on_one_side_is_different_and_names_the_side():
    broken = T.copy()
    broken[0, 0] = np.inf
    found = judged(item(broken, T, T), SINGLE)
    assert found.verdict == "DIFFERENT"
    assert found.detail.startswith("infinite only on the keras side, 1 of 4 elements: it fails in float32")
    found = judged(item(T, T, broken), SINGLE)
    assert (found.verdict.value, "only on the torch side" in found.detail) == ("DIFFERENT", True)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_value_that_is_not_finite_in_float32_on_both_sides_is_not_judged(value):
    broken = T.copy()
    broken[0, 0] = value
    found = judged(item(broken, T, broken), SINGLE)
    assert found.verdict == "INCONCLUSIVE"
    assert "both sides" in found.detail


def test_a_side_that_is_per_cents_off_in_float32_is_different():
    found = numeric(3 * BROKEN, 1e-5)
    assert found.verdict == "DIFFERENT"
    assert found.detail.startswith("the keras side fails in float32")
    assert numeric(1e-5, 3 * BROKEN).detail.startswith("the torch side fails in float32")
    assert numeric(0.3 * BROKEN, 1e-5).verdict == "NUMERIC"
    assert numeric(3 * BROKEN, 0.1).verdict == "EQUIVALENT"  # both lose it: the reference has no more digits


def test_a_few_steps_of_full_size_the_other_way_are_no_break_of_an_update():
    truth = np.ones(10_000)
    flipped = truth.copy()
    flipped[0] = -1.0
    assert judged(item(flipped, truth, truth), SINGLE).verdict == "DIFFERENT"
    assert judged(item(flipped, truth, truth), replace(SINGLE, phase="update")).verdict == "NUMERIC"
    assert judged(item(1.1 * truth, truth, truth), replace(SINGLE, phase="update")).verdict == "DIFFERENT"


def test_infinities_of_all_three_are_no_loss_of_precision():
    masked = np.array([1.0, -np.inf, 2.0])
    assert judged(item(masked, masked, masked, masked), SINGLE).verdict == "EQUIVALENT"


def test_not_a_number_in_float32_where_the_truth_is_infinite_is_different():
    masked = np.array([1.0, -np.inf, 2.0])
    broken = np.array([1.0, np.nan, 2.0])
    assert judged(item(masked, masked, broken), SINGLE).verdict == "DIFFERENT"
    assert judged(item(broken, masked, masked), SINGLE).verdict == "DIFFERENT"


def test_what_is_missing_or_of_another_shape_in_float32_is_a_difference():
    assert judged(item(None, T, T), SINGLE).verdict == "DIFFERENT"
    assert judged(item(T[:1], T, T), SINGLE).verdict == "DIFFERENT"


# Numbers of float32 ------------------------------------------------------------------------------------------------


def moved_by(error: float, mine: float, theirs: float) -> Check:
    """A quantity that is `error` off, and how far each side goes when its numbers of float32 are moved."""
    value = np.ones(4)
    other = value * (1 + error)
    return judged(item(other, value, moved=((value * (1 + mine), other * (1 + theirs)),)))


@pytest.mark.parametrize(("mine", "theirs"), [(6e-8, 0.0), (0.0, 6e-8)])
def test_what_numbers_of_float32_explain_is_equivalent_and_says_so(mine: float, theirs: float) -> None:
    found = moved_by(3e-8, mine, theirs)
    assert (found.verdict, found.detail) == ("EQUIVALENT", FLOAT32_EXPLAINS)
    assert found.allowed == pytest.approx(KAPPA * 6e-8, rel=1e-6)


def test_what_is_beyond_them_is_different_by_the_usual_allowance() -> None:
    found = moved_by(2 * KAPPA * 6e-8, 6e-8, 6e-8)
    assert found.verdict == "DIFFERENT"
    assert "explain at most 1.0e-06 of it" in found.detail
    assert moved_by(2 * KAPPA * 6e-8, 0.0, 0.0).detail == ""  # what explains nothing more is not told
    assert found.allowed is not None
    assert found.allowed < 1e-12


def test_they_explain_nothing_where_nothing_is_to_be_explained() -> None:
    found = moved_by(1e-15, 6e-8, 6e-8)
    assert (found.verdict, found.detail) == ("EQUIVALENT", "")
    assert found.allowed is not None
    assert found.allowed < 1e-12


def test_numbers_that_move_a_quantity_by_its_whole_size_say_nothing() -> None:
    assert moved_by(0.5, 0.9, 0.0).verdict == "INCONCLUSIVE"
