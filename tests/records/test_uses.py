"""Names of uses, and which use of one side is which of the other."""

import numpy as np
import pytest

from xcheck.records.uses import MOST, Touch, paired, uses_of

G = [np.array([1.0, 2.0, 0.0]), np.array([0.5, -1.0, 3.0]), np.array([-2.0, 0.25, 1.0])]
ZERO = np.zeros(3)


def touch(owner: str, call: int, gradient=G[0], parameter: str = "w") -> Touch:
    return Touch(parameter, owner, call, gradient, (3,))


def test_a_use_is_named_after_the_call_of_the_layer():
    found = uses_of([touch("enc", 1), touch("enc", 2, G[1]), touch("penalty", 0, G[2])], ())
    assert list(found["w"]) == ["enc (call 1)", "enc (call 2)", "penalty"]
    assert found["w"]["enc (call 2)"] is G[1]


def test_several_uses_within_one_call_are_told_apart():
    found = uses_of([touch("m", 1), touch("m", 1, G[1]), touch("loss", 0), touch("loss", 0, G[1])], ())
    assert list(found["w"]) == ["m (call 1, use 1)", "m (call 1, use 2)", "loss (use 1)", "loss (use 2)"]


def test_a_call_through_which_no_gradient_comes_back_is_a_use_of_gradient_zero():
    found = uses_of([touch("a", 1), touch("b", 1, None)], ())
    assert np.array_equal(found["w"]["b (call 1)"], ZERO)


def test_reading_without_a_gradient_beside_a_real_use_or_outside_of_layers_is_no_use():
    touches = [touch("a", 1), touch("a", 1, None), touch("a", 1, ZERO), touch("loss", 0, None), touch("b", 1, G[1])]
    assert list(uses_of(touches, ())["w"]) == ["a (call 1)", "b (call 1)"]


def test_a_parameter_of_a_single_use_is_left_out_unless_it_is_tied():
    touches = [touch("a", 1), touch("b", 1, parameter="v")]
    assert uses_of(touches, ()) == {}
    assert list(uses_of(touches, ("v",))) == ["v"]


@pytest.mark.parametrize("agree", [True, False])
def test_uses_that_fit_in_order_stay_in_order(agree):
    assert paired(G, [g + 1e-12 for g in G], agree=agree) == [((0,), (0,)), ((1,), (1,)), ((2,), (2,))]


def test_uses_in_another_order_are_found_by_value():
    assert paired(G, [G[2], G[0], G[1]], agree=True) == [((0,), (1,)), ((1,), (2,)), ((2,), (0,))]


def test_a_use_that_differs_is_the_one_left_over():
    assert paired(G, [G[2], G[0] * 3, G[1]], agree=False) == [((0,), (1,)), ((1,), (2,)), ((2,), (0,))]


def test_two_calls_of_one_side_may_be_one_of_the_other():
    assert paired(G, [G[0] + G[1], G[2]], agree=True) == [((0, 1), (0,)), ((2,), (1,))]
    assert paired([G[0] + G[1], G[2]], G, agree=True) == [((0,), (0, 1)), ((1,), (2,))]


def test_groups_are_as_fine_as_both_allow():
    left = [G[0], G[1], G[2], G[0] * 2]
    right = [G[0] + G[1], G[2] * 0.5, G[2] * 0.5 + G[0] * 2]
    assert paired(left, right, agree=True) == [((0, 1), (0,)), ((2, 3), (1, 2))]


def test_a_lost_use_has_no_counterpart():
    assert paired(G, [G[0], G[2]], agree=False) == [((0,), (0,)), ((1,), ()), ((2,), (1,))]
    assert paired(G[:1], G, agree=False) == [((0,), (0,)), ((), (1,)), ((), (2,))]


def test_a_use_of_gradient_zero_needs_no_counterpart():
    assert paired([ZERO, *G], G, agree=True) == [((1,), (0,)), ((2,), (1,)), ((3,), (2,))]
    assert paired(G, [G[0], ZERO, G[2]], agree=False) == [((0,), (0,)), ((1,), (1,)), ((2,), (2,))]


def test_many_uses_that_do_not_fit_are_one_group_before_it_takes_long():
    rng = np.random.default_rng(0)
    left, right = list(rng.standard_normal((90, 4))), list(rng.standard_normal((80, 4)))
    right[-1] = sum(left) - sum(right[:-1])
    assert len(left) * len(right) > MOST
    assert paired(left, right, agree=True) == [(tuple(range(90)), tuple(range(80)))]


def test_uses_that_are_zero_but_for_rounding_stay_in_order():
    noise = np.random.default_rng(0).standard_normal((4, 3)) * 1e-17
    assert paired(noise[:2], noise[2:], agree=True, floor=1.0) == [((0,), (0,)), ((1,), (1,))]
    assert paired(noise[:2], noise[2:], agree=True) != [((0,), (0,)), ((1,), (1,))]
