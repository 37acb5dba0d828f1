"""Causes among the uses of a weight, on records: confirmed where one reproduces the gradient, silent elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import linear_pair, steps_of

from xcheck.causes.gradient.uses import SUBSETS, transferred_copies, use_causes

W, B, K, KB = "linear.weight", "linear.bias", "dense/kernel", "dense/bias"


def told_apart(count: int, change, *, bias=False):
    """Plan and records of a step whose weight is used `count` times; `change` gets the uses and returns what the other
    side observes."""
    plan, (step,) = steps_of(linear_pair())
    rng = np.random.default_rng(1)
    record, other = step.reference.record, step.follower
    for mine, theirs in [(W, K), (B, KB)][: 2 if bias else 1]:
        shape = record.gradients[mine].shape
        uses = {f"enc (call {n})": rng.standard_normal(shape) for n in range(1, count + 1)}
        observed = change(uses)
        record = replace(
            record, gradients={**record.gradients, mine: sum(uses.values())}, uses={**record.uses, mine: uses}
        )
        other = replace(other, gradients={**other.gradients, theirs: observed.T if mine == W else observed})
    return plan, record, other


def ids(*made, **options):
    return [(c.id, c.keras, c.torch) for c in use_causes(*told_apart(*made, **options))]


def without(*numbers):
    return lambda uses: sum(g for n, g in enumerate(uses.values(), 1) if n not in numbers)


def test_nothing_is_said_where_the_gradients_agree():
    assert ids(3, without()) == []


@pytest.mark.parametrize("lost", [(1,), (3,), (1, 2), (2, 3)])
def test_every_use_that_is_lost_is_named(lost):
    uses = " and ".join(f"enc (call {n})" for n in lost)
    assert ids(3, without(*lost)) == [("lost_use", K, f"{W} via {uses}")]


def test_one_cause_speaks_for_all_weights_that_lost_the_same_use():
    (found,) = use_causes(*told_apart(3, without(2), bias=True))
    assert found.evidence["parameters"] == [K, KB]


def test_of_many_uses_one_or_all_but_one_is_found():
    assert ids(SUBSETS + 2, without(4)) == [("lost_use", K, f"{W} via enc (call 4)")]
    kept = without(*(n for n in range(1, SUBSETS + 3) if n != 4))
    assert len(ids(SUBSETS + 2, kept)) == 1
    assert ids(SUBSETS + 2, without(1, 2)) == []


def test_a_use_counted_twice_is_named():
    def twice(uses):
        return without()(uses) + uses["enc (call 2)"]

    assert ids(3, twice) == [("doubled_use", K, f"{W} via enc (call 2)")]


def test_a_mean_is_named_unless_everything_is_scaled_alike():
    def mean(uses):
        return sum(uses.values()) / len(uses)

    plan, record, other = told_apart(3, mean)
    assert use_causes(plan, record, other) == []  # the other side may use it once, on three batches in one
    other = replace(other, uses={K: {f"enc (call {n})": other.gradients[K] / 3 for n in (1, 2, 3)}})
    assert [c.id for c in use_causes(plan, record, other)] == ["averaged_uses"]
    scaled = replace(other, gradients={**other.gradients, KB: other.gradients[KB] / 3})
    assert use_causes(plan, record, scaled) == []
    halved = replace(other, losses={**other.losses, "total": other.losses["total"] / 3})
    assert use_causes(plan, record, halved) == []


@pytest.mark.parametrize("factor", [0.7, 1 + 1e-7, -1.0, 2.0, 0.0])
def test_nothing_is_said_of_a_gradient_that_no_use_explains(factor):
    assert ids(3, lambda uses: factor * sum(uses.values())) == []


def test_nothing_is_confirmed_that_is_only_nearly_so():
    assert ids(3, lambda uses: without(2)(uses) * (1 + 1e-6)) == []


def test_a_use_that_is_read_without_a_gradient_is_detached():
    plan, record, other = told_apart(2, without(2))
    read = {"a (call 1)": other.gradients[K], "b (call 1)": np.zeros_like(other.gradients[K])}
    (found,) = use_causes(plan, record, replace(other, uses={K: read}))
    assert found.id == "detached_use"
    assert "b (call 1) reads the weight there" in found.summary


def test_copies_that_were_not_declared_have_no_transferred_copy():
    assert transferred_copies(*told_apart(2, without(1))) == []
