"""The gradient use by use: what is lost, doubled or grouped in another way is told by name."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import linear_pair, steps_of

from xcheck.phases.checks.splits import splits
from xcheck.phases.checks.uses import unsplit, use_checks
from xcheck.stepping.lockstep import StepPair

W, K = "linear.weight", "dense/kernel"
PARTS = np.array([0.5, 0.3, 0.2])


def shared(ours=PARTS, theirs=PARTS, *, total=1.0, reference="torch"):
    """A plan and its first step, where the weight's gradient came through three uses in these proportions.

    Args:
        ours, theirs: shares of the reference's and of the other side's uses; None for a side that saw none.
        total: of the other side's gradient, against the reference's.
    """
    plan, (step,) = steps_of(linear_pair(reference=reference))
    paths = {"torch": W, "keras": K}

    def split(record, side, shares, scale=1.0):
        path = paths[side]
        whole = record.gradients[path]
        gradients = {**record.gradients, path: whole * scale}
        if shares is None:
            return replace(record, gradients=gradients)
        uses = {f"{side} (call {i})": whole * share for i, share in enumerate(shares, 1)}
        tilt = np.linspace(0.05, 0.15, whole.size).reshape(sorted(whole.shape))  # no use is a multiple of another one
        shift = whole * (tilt if side == "torch" else tilt.T)
        uses[f"{side} (call 1)"] += shift
        uses[f"{side} (call 2)"] -= shift
        return replace(record, gradients=gradients, uses={path: uses})

    record = split(step.reference.record, plan.reference, ours)
    twins = tuple(split(t, plan.reference, ours) for t in step.reference.twins)
    follower = split(step.follower, plan.follower, theirs, total)
    return plan, StepPair(replace(step.reference, record=record, twins=twins), follower)


def said(plan, step):
    return {c.name: (c.verdict.value, c.detail) for c in use_checks(plan, step, "float64")}


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_each_use_is_compared_and_the_sum_of_each_side(reference):
    plan, step = shared(reference=reference)
    checks = use_checks(plan, step, "float64")
    mine, path = ("torch", W) if reference == "torch" else ("keras", K)
    assert [c.name for c in checks] == [
        f"uses of {W if reference == 'torch' else K} sum to its gradient",
        f"uses of {K if reference == 'torch' else W} sum to its gradient",
        *(f"{path} via {mine} (call {n})" for n in (1, 2, 3)),
    ]
    assert {c.verdict for c in checks} == {"EQUIVALENT"}
    assert all(c.error is not None and c.of_use for c in checks)
    assert (checks[-1].torch, checks[-1].keras) == (f"{W} via torch (call 3)", f"{K} via keras (call 3)")
    assert unsplit(plan, step) == []


def test_nothing_is_said_of_parameters_used_once_or_in_float32():
    plan, step = shared(None, None)
    assert use_checks(plan, step, "float64") == []
    assert use_checks(*shared(), "float32") == []
    assert [s.match.torch for s in splits(plan, step.reference.record, step.follower)] == []


def test_a_use_whose_gradient_differs_is_named_with_its_numbers():
    plan, step = shared()
    uses = step.follower.uses[K]
    gradients = {**step.follower.gradients, K: step.follower.gradients[K] + uses["keras (call 2)"] * 1e-9}
    uses = {**uses, "keras (call 2)": uses["keras (call 2)"] * (1 + 1e-9)}
    found = said(plan, replace(step, follower=replace(step.follower, gradients=gradients, uses={K: uses})))
    assert [name for name, (verdict, _) in found.items() if verdict == "DIFFERENT"] == [f"{W} via torch (call 2)"]


def test_a_lost_use_has_no_counterpart():
    plan, step = shared()
    uses = dict(step.follower.uses[K])
    lost = uses.pop("keras (call 2)")
    gradients = {**step.follower.gradients, K: step.follower.gradients[K] - lost}
    found = said(plan, replace(step, follower=replace(step.follower, gradients=gradients, uses={K: uses})))
    assert found[f"{W} via torch (call 2)"] == ("DIFFERENT", "no use on the keras side has this gradient")
    assert {v for name, (v, _) in found.items() if name != f"{W} via torch (call 2)"} == {"EQUIVALENT"}


def test_a_use_of_the_port_alone_is_named_in_its_words():
    plan, step = shared()
    uses = {**step.follower.uses[K], "extra (call 1)": step.follower.uses[K]["keras (call 1)"] * 2}
    gradients = {**step.follower.gradients, K: step.follower.gradients[K] + uses["extra (call 1)"]}
    found = said(plan, replace(step, follower=replace(step.follower, gradients=gradients, uses={K: uses})))
    assert found[f"{W} via extra (call 1)"] == ("DIFFERENT", "no use on the torch side has this gradient")


def test_two_calls_against_one_are_compared_in_sum():
    plan, step = shared()
    uses = step.follower.uses[K]
    both = {"both (call 1)": uses["keras (call 1)"] + uses["keras (call 2)"], "keras (call 3)": uses["keras (call 3)"]}
    found = said(plan, replace(step, follower=replace(step.follower, uses={K: both})))
    assert found[f"{W} via torch (call 1) and 1 more"] == (
        "EQUIVALENT",
        "uses with equal sums: 2 on the torch side, 1 on the keras side",
    )
    assert found[f"{W} via torch (call 3)"] == ("EQUIVALENT", "")


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_side_that_uses_it_once_is_compared_as_a_whole(side):
    plan, step = shared(*((None, PARTS) if side == "torch" else (PARTS, None)))
    checks = use_checks(plan, step, "float64")
    assert len(checks) == 2
    assert {c.verdict for c in checks} == {"EQUIVALENT"}
    assert "uses with equal sums" in checks[-1].detail


def test_uses_that_part_beyond_any_grouping_are_one_group_where_the_wholes_agree():
    found = said(*shared(PARTS, [0.25, 0.35, 0.4]))
    assert [detail for _, detail in found.values()][2:] == [
        "uses with equal sums: 3 on the torch side, 3 on the keras side"
    ]


def test_uses_that_miss_the_whole_are_left_out_with_a_note():
    plan, step = shared(PARTS, [0.5, 0.3, 0.1])
    assert said(plan, step) == {}
    (note,) = unsplit(plan, step)
    assert note.startswith(f"the gradient of {K} is not split by use: the observed uses on the keras side")


def test_a_doubled_gradient_is_no_split_of_itself():
    plan, step = shared(total=2.0)
    assert said(plan, step) == {}
    assert len(unsplit(plan, step)) == 1


def test_a_use_whose_gradient_is_zero_but_for_rounding_is_measured_against_the_others():
    plan, step = shared()
    rng = np.random.default_rng(0)

    def tiny(record, path):
        noise = 1e-17 * rng.standard_normal((2, *record.gradients[path].shape))
        uses = {"a (call 1)": noise[0], "a (call 2)": noise[1]}
        return replace(record, gradients={**record.gradients, path: noise.sum(axis=0)}, uses={path: uses})

    reference = replace(
        step.reference,
        record=tiny(step.reference.record, W),
        twins=tuple(tiny(twin, W) for twin in step.reference.twins),
    )
    checks = use_checks(plan, replace(step, reference=reference, follower=tiny(step.follower, K)), "float64")
    assert {c.verdict for c in checks} == {"EQUIVALENT"}
    assert len(checks) == 4


def test_where_no_use_fits_the_whole_gradient_says_it_all():
    plan, step = shared(PARTS[:2] / PARTS[:2].sum())
    uses = {f"keras (call {n})": 3.0 * n * step.follower.gradients[K] for n in (1, 2, 3)}
    gradients = {**step.follower.gradients, K: sum(uses.values())}
    found = said(plan, replace(step, follower=replace(step.follower, gradients=gradients, uses={K: uses})))
    assert list(found) == [f"uses of {W} sum to its gradient", f"uses of {K} sum to its gradient"]
