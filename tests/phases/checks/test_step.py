"""The phases of a step: a fault planted in one array is found by one check, with its name, and by no other."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import WEIGHT_MAP, batches, both, changed, dropped, linear_pair, plain, scaled, steps_of

import xcheck
from xcheck.errors import BatchError
from xcheck.matching import MatchPlan
from xcheck.numerics.tolerance import KAPPA
from xcheck.phases import STEP_PHASES
from xcheck.phases.checks.step import trajectory_checks
from xcheck.phases.checks.unused import excused, unproven, unreached, without_gradient, zero_gradients
from xcheck.phases.trajectory_bounds import Envelope
from xcheck.records.trace import StepRecord
from xcheck.stepping.lockstep import StepPair

KERNEL, BIAS = "dense/kernel", "dense/bias"


def step_of(pair: xcheck.Pair | None = None, **sides) -> tuple[MatchPlan, StepPair]:
    """The second step, so that slots exist before and after it."""
    plan, steps = steps_of(pair or linear_pair(**sides), steps=2)
    return plan, steps[1]


def judged(phase: str, plan: MatchPlan, step: StepPair):
    return STEP_PHASES[phase](plan, step, "float64")


def wrong(phase: str, plan: MatchPlan, step: StepPair) -> dict[str, str]:
    """Name -> verdict of the checks of a phase that are not EQUIVALENT."""
    return {c.name: c.verdict.value for c in judged(phase, plan, step) if c.verdict != "EQUIVALENT"}


def all_wrong(plan: MatchPlan, step: StepPair) -> dict[str, dict[str, str]]:
    found = {phase: wrong(phase, plan, step) for phase in STEP_PHASES}
    return {phase: names for phase, names in found.items() if names}


def test_the_phases_stand_in_the_order_of_the_dataflow():
    assert list(STEP_PHASES) == ["forward", "loss", "gradient", "update", "state"]


def test_without_a_fault_every_check_has_a_number_and_passes():
    plan, step = step_of()
    names = {phase: [c.name for c in judged(phase, plan, step)] for phase in STEP_PHASES}
    assert names == {
        "forward": ["output (inference)", "output (training)"],
        "loss": ["data", "total"],
        "gradient": ["linear.weight", "linear.bias"],
        "update": ["linear.weight", "linear.bias", "linear.weight [momentum]", "linear.bias [momentum]"],
        "state": [],
    }
    for phase in STEP_PHASES:
        for check in judged(phase, plan, step):
            assert check.verdict == "EQUIVALENT"
            assert check.error is not None
            assert (check.phase, check.precision, check.step) == (phase, "float64", 2)


FAULTS = [
    (("inference", "output"), "forward", "output (inference)"),
    (("outputs", "output"), "forward", "output (training)"),
    (("losses", "data"), "loss", "data"),
    (("losses", "total"), "loss", "total"),
    (("gradients", KERNEL), "gradient", "linear.weight"),
    (("gradients", BIAS), "gradient", "linear.bias"),
    (("after", "parameters", KERNEL), "update", "linear.weight"),
    (("after", "parameters", BIAS), "update", "linear.bias"),
    (("after", "slots", KERNEL, "momentum"), "update", "linear.weight [momentum]"),
    (("after", "slots", BIAS, "momentum"), "update", "linear.bias [momentum]"),
]


@pytest.mark.parametrize(("where", "phase", "name"), FAULTS)
def test_a_change_of_1e_9_is_found_in_its_phase_by_its_name_and_nowhere_else(where, phase, name):
    plan, step = step_of(keras={"fault": scaled(*where, by=1 + 1e-9)})
    assert all_wrong(plan, step) == {phase: {name: "DIFFERENT"}}


@pytest.mark.parametrize(("where", "phase", "name"), FAULTS)
def test_one_changed_element_is_found_in_its_phase_by_its_name_and_nowhere_else(where, phase, name):
    def nudge(array):
        array = np.array(array)
        array[(-1,) * array.ndim] += 1e-9
        return array

    plan, step = step_of(keras={"fault": changed(*where, change=nudge)})
    assert all_wrong(plan, step) == {phase: {name: "DIFFERENT"}}


SAID_BY_OTHERS = (("losses", "data"), ("losses", "total"))
"""The data loss is known by the total, and the total by its terms."""


@pytest.mark.parametrize(
    ("where", "phase", "name"),
    [f for f in FAULTS if f[0][:2] != ("after", "parameters") and f[0] not in SAID_BY_OTHERS],
)
def test_what_one_side_does_not_report_is_different(where, phase, name):
    plan, step = step_of(keras={"fault": dropped(*where)})
    found = all_wrong(plan, step)
    assert found == {phase: {name: "DIFFERENT"}}
    detail = next(c.detail for c in judged(phase, plan, step) if c.name == name)
    assert detail == "missing only on the keras side"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("where", "phase", "name"), FAULTS)
def test_one_value_that_is_not_finite_is_found_whatever_it_is_in(where, phase, name, bad):
    def spoil(array):
        array = np.array(array)
        array[(0,) * array.ndim] = bad
        return array

    plan, step = step_of(keras={"fault": changed(*where, change=spoil)})
    assert all_wrong(plan, step) == {phase: {name: "DIFFERENT"}}


# Forward ---------------------------------------------------------------------------------------------------------


def test_a_lone_output_needs_no_common_name():
    def rename(record: StepRecord) -> StepRecord:
        return replace(
            record, outputs={"logits": record.outputs["output"]}, inference={"y": record.inference["output"]}
        )

    plan, step = step_of(keras={"fault": rename})
    found = judged("forward", plan, step)
    assert [(c.name, c.torch, c.keras) for c in found] == [
        ("output (inference)", "output", "y"),
        ("output (training)", "output", "logits"),
    ]
    assert wrong("forward", plan, step) == {}


def test_the_paths_stand_on_their_sides_when_keras_is_the_reference():
    def rename(record: StepRecord) -> StepRecord:
        return replace(record, outputs={"logits": record.outputs["output"]})

    plan, step = step_of(linear_pair(reference="keras", keras={"fault": rename}))
    training = judged("forward", plan, step)[1]
    assert (training.name, training.torch, training.keras) == ("logits (training)", "output", "logits")


def extra_output(name: str, by: float):
    return lambda record: replace(record, outputs={**record.outputs, name: record.outputs["output"] * by})


def test_outputs_are_compared_under_their_names_and_not_in_their_order():
    def swap(record: StepRecord) -> StepRecord:
        return replace(record, outputs=dict(reversed(extra_output("aux", 2.0)(record).outputs.items())))

    plan, step = step_of(torch={"fault": extra_output("aux", 2.0)}, keras={"fault": swap})
    assert wrong("forward", plan, step) == {}


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_an_output_that_one_side_lacks_is_different_and_named(side):
    plan, step = step_of(**{side: {"fault": extra_output("aux", 2.0)}})
    assert wrong("forward", plan, step) == {"aux (training)": "DIFFERENT"}


def test_outputs_under_two_names_do_not_find_each_other():
    plan, step = step_of(torch={"fault": extra_output("aux", 2.0)}, keras={"fault": extra_output("extra", 2.0)})
    assert wrong("forward", plan, step) == {"aux (training)": "DIFFERENT", "extra (training)": "DIFFERENT"}


def test_what_is_to_be_done_about_outputs_that_do_not_fit():
    def renamed(record: StepRecord) -> StepRecord:
        return replace(record, outputs={"logits": next(iter(record.outputs.values())), "more": np.ones(3)})

    def other(record: StepRecord) -> StepRecord:
        return replace(record, outputs={"output": next(iter(record.outputs.values())), "more": np.ones(3)})

    plan, step = step_of(torch={"fault": other}, keras={"fault": renamed})
    details = [c.detail for c in judged("forward", plan, step) if c.name == "output (training)"]
    assert details == ["missing only on the keras side, which has logits: give them the same names with `outputs`"]

    def turned(record: StepRecord) -> StepRecord:
        return replace(record, outputs={name: a.T for name, a in record.outputs.items()})

    plan, step = step_of(keras={"fault": turned})
    (detail,) = (c.detail for c in judged("forward", plan, step) if c.verdict == "DIFFERENT")
    assert "transpose them with `outputs`" in detail


def test_no_output_at_all_is_inconclusive():
    def mute(record: StepRecord) -> StepRecord:
        return replace(record, outputs={}, inference={})

    plan, step = step_of(torch={"fault": mute}, keras={"fault": mute})
    assert wrong("forward", plan, step) == {"outputs": "INCONCLUSIVE"}


def test_a_difference_in_a_small_output_does_not_hide_behind_a_large_one():
    def large(record: StepRecord) -> StepRecord:
        return replace(record, outputs={**record.outputs, "scores": np.full((8, 2), 1e9)})

    fault = both(large, scaled("outputs", "output", by=1 + 1e-6))
    plan, step = step_of(torch={"fault": large}, keras={"fault": fault})
    assert wrong("forward", plan, step) == {"output (training)": "DIFFERENT"}


MASK = np.arange(8) < 5


def masked_pair(mask, fault, name="output") -> xcheck.Pair:
    def masked_batches(seed):
        for batch in batches(seed):
            yield replace(batch, compare={name: mask})

    return linear_pair(batches=masked_batches, keras={"fault": fault})


def nudged_at(*index):
    def nudge(array):
        array = array.copy()
        array[index] += 1e-6
        return array

    return changed("outputs", "output", change=nudge)


@pytest.mark.parametrize("mask", [MASK, np.stack([MASK, MASK], axis=1)])
def test_a_mask_hides_what_means_nothing_and_nothing_else(mask):
    plan, step = step_of(masked_pair(mask, nudged_at(6, 1)))
    assert wrong("forward", plan, step) == {}
    plan, step = step_of(masked_pair(mask, nudged_at(4, 1)))
    assert wrong("forward", plan, step) == {"output (training)": "DIFFERENT"}


def test_values_that_are_not_numbers_under_the_mask_say_nothing():
    def spoil(array):
        array = array.copy()
        array[5:] = np.nan
        return array

    plan, step = step_of(masked_pair(MASK, changed("outputs", "output", change=spoil)))
    assert wrong("forward", plan, step) == {}


def test_a_mask_that_leaves_nothing_is_inconclusive():
    plan, step = step_of(masked_pair(np.zeros(8, bool), None))
    assert set(wrong("forward", plan, step).values()) == {"INCONCLUSIVE"}


def test_a_mask_goes_by_the_name_of_either_side():
    def rename(record: StepRecord) -> StepRecord:
        return replace(
            record, outputs={"logits": record.outputs["output"]}, inference={"logits": record.inference["output"]}
        )

    for name in ("output", "logits"):
        plan, step = step_of(masked_pair(MASK, both(nudged_at(6, 1), rename), name))
        assert wrong("forward", plan, step) == {}, name


def test_a_mask_that_names_no_output_is_the_users_mistake():
    plan, step = step_of(masked_pair(MASK, None, "ouput"))
    with pytest.raises(BatchError, match="is not an output") as caught:
        judged("forward", plan, step)
    assert "Batch.compare['ouput']" in str(caught.value)
    assert "outputs: output" in str(caught.value)


@pytest.mark.parametrize("shape", [(7,), (8, 3), (8, 2, 1)])
def test_a_mask_that_does_not_cover_its_output_is_the_users_mistake(shape):
    plan, step = step_of(masked_pair(np.ones(shape, bool), None))
    with pytest.raises(BatchError, match="does not fit its output") as caught:
        judged("forward", plan, step)
    assert "(8, 2)" in str(caught.value)


def test_a_mask_may_name_an_output_that_only_training_has():
    fault = extra_output("aux", 2.0)
    pair = masked_pair(MASK, fault, "aux")
    plan, step = step_of(replace(pair, torch=replace(pair.torch, fault=fault)))
    assert wrong("forward", plan, step) == {}


# Loss ------------------------------------------------------------------------------------------------------------


def with_penalty(value: float, name: str = "l2"):
    def fault(record: StepRecord) -> StepRecord:
        total = record.losses["data"] + value
        penalties = {"penalty": np.array(value), f"penalty/{name}": np.array(value)}
        return replace(record, losses={**record.losses, **penalties, "total": total})

    return fault


def test_a_penalty_counted_twice_is_found_in_the_penalty_and_the_total_and_not_in_the_data():
    plan, step = step_of(torch={"fault": with_penalty(0.25)}, keras={"fault": with_penalty(0.5)})
    found = {c.name: c for c in judged("loss", plan, step)}
    assert wrong("loss", plan, step) == dict.fromkeys(("penalty", "penalty/l2", "total"), "DIFFERENT")
    assert found["data"].verdict == "EQUIVALENT"
    assert (found["penalty"].torch_value, found["penalty"].keras_value) == (0.25, 0.5)
    assert found["penalty"].error == pytest.approx(1.0)


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_penalty_that_one_side_lacks_is_measured_against_zero(side):
    plan, step = step_of(**{side: {"fault": with_penalty(0.25)}})
    assert wrong("loss", plan, step) == {"penalty": "DIFFERENT", "total": "DIFFERENT"}
    penalty = next(c for c in judged("loss", plan, step) if c.name == "penalty")
    assert {penalty.torch_value, penalty.keras_value} == {0.0, 0.25}


def test_a_penalty_of_zero_is_none():
    plan, step = step_of(keras={"fault": with_penalty(0.0)})
    assert wrong("loss", plan, step) == {}


def test_a_term_that_one_side_calls_a_penalty_is_compared_in_sum():
    def in_the_data(record: StepRecord) -> StepRecord:
        whole = record.losses["data"] + 0.25
        return replace(record, losses={**record.losses, "data": whole, "data/kl": np.array(0.25), "total": whole})

    plan, step = step_of(torch={"fault": in_the_data}, keras={"fault": with_penalty(0.25, "add_loss_0")})
    (total,) = judged("loss", plan, step)
    assert (total.name, total.verdict) == ("total", "EQUIVALENT")
    assert "compared in sum" in total.detail
    plan, step = step_of(torch={"fault": in_the_data}, keras={"fault": with_penalty(0.25 + 1e-9)})
    assert wrong("loss", plan, step) == dict.fromkeys(("data", "penalty", "total"), "DIFFERENT")


def test_a_penalty_below_the_rounding_of_the_total_is_no_difference():
    plan, step = step_of(keras={"fault": with_penalty(1e-17)})
    assert wrong("loss", plan, step) == {}


def test_a_small_penalty_next_to_a_large_loss_is_seen():
    plan, step = step_of(torch={"fault": with_penalty(1e-9)}, keras={"fault": with_penalty(2e-9)})
    assert "penalty" in wrong("loss", plan, step)


def test_terms_of_one_name_are_compared_and_others_are_left_to_the_sums():
    def split(a: float, name: str):
        def fault(record: StepRecord) -> StepRecord:
            data = record.losses["data"]
            return replace(record, losses={**record.losses, "data/a": data * a, f"data/{name}": data * (1 - a)})

        return fault

    plan, step = step_of(torch={"fault": split(0.5, "b")}, keras={"fault": split(0.25, "b")})
    assert wrong("loss", plan, step) == {"data/a": "DIFFERENT", "data/b": "DIFFERENT"}
    plan, step = step_of(torch={"fault": split(0.5, "b")}, keras={"fault": split(0.5, "c")})
    assert wrong("loss", plan, step) == {}
    assert [c.name for c in judged("loss", plan, step)] == ["data", "data/a", "total"]


def test_a_penalty_named_after_a_parameter_is_found_under_the_other_sides_path():
    torch, keras = with_penalty(0.25, "linear.weight"), with_penalty(0.5, KERNEL)
    plan, step = step_of(torch={"fault": torch}, keras={"fault": keras})
    assert "penalty/linear.weight" in wrong("loss", plan, step)
    plan, step = step_of(linear_pair(reference="keras", torch={"fault": torch}, keras={"fault": keras}))
    assert f"penalty/{KERNEL}" in wrong("loss", plan, step)


def test_a_side_that_says_the_total_alone_is_compared_by_the_total():
    def only_total(by: float):
        return lambda record: replace(record, losses={"total": record.losses["total"] * by})

    plan, step = step_of(torch={"fault": with_penalty(0.25)}, keras={"fault": only_total(1.0)})
    assert [c.name for c in judged("loss", plan, step)] == ["total"]
    assert wrong("loss", plan, step) == {"total": "DIFFERENT"}
    plan, step = step_of(keras={"fault": only_total(1.0)})
    assert wrong("loss", plan, step) == {}
    plan, step = step_of(torch={"fault": only_total(1 + 1e-9)})
    assert wrong("loss", plan, step) == {"total": "DIFFERENT"}


def test_a_loss_that_one_side_or_both_do_not_report_is_inconclusive():
    def mute(record: StepRecord) -> StepRecord:
        return replace(record, losses={})

    plan, step = step_of(keras={"fault": mute})
    assert wrong("loss", plan, step) == {"total": "INCONCLUSIVE"}
    assert all("let its step return it" in c.detail for c in judged("loss", plan, step))
    plan, step = step_of(torch={"fault": mute}, keras={"fault": mute})
    assert wrong("loss", plan, step) == {"loss": "INCONCLUSIVE"}


def test_a_penalty_of_one_side_is_not_measured_against_zero_where_the_other_reports_no_loss():
    def mute(record: StepRecord) -> StepRecord:
        return replace(record, losses={})

    plan, step = step_of(torch={"fault": with_penalty(0.25)}, keras={"fault": mute})
    assert wrong("loss", plan, step) == {"total": "INCONCLUSIVE"}


# Gradient --------------------------------------------------------------------------------------------------------


def none(path: str):
    return changed("gradients", path, change=lambda _: None)


def zeros(path: str):
    return changed("gradients", path, change=np.zeros_like)


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize("lost", [none, lambda path: dropped("gradients", path)])
def test_a_gradient_that_one_side_lacks_is_different(side, lost):
    path = {"torch": "linear.bias", "keras": BIAS}[side]
    plan, step = step_of(**{side: {"fault": lost(path)}})
    (found,) = (c for c in judged("gradient", plan, step) if c.verdict != "EQUIVALENT")
    assert (found.name, found.verdict.value) == ("linear.bias", "DIFFERENT")
    assert found.detail == f"missing only on the {side} side"


def test_a_gradient_that_one_side_lacks_and_the_other_has_as_zeros_is_inconclusive():
    plan, step = step_of(torch={"fault": zeros("linear.bias")}, keras={"fault": none(BIAS)})
    assert wrong("gradient", plan, step) == {"linear.bias": "INCONCLUSIVE"}


def test_a_gradient_that_both_sides_lack_is_inconclusive():
    plan, step = step_of(torch={"fault": none("linear.bias")}, keras={"fault": none(BIAS)})
    assert wrong("gradient", plan, step) == {"linear.bias": "INCONCLUSIVE"}


def test_a_gradient_in_the_wrong_layout_is_different_and_not_turned_until_it_fits():
    plan, step = step_of(keras={"fault": changed("gradients", KERNEL, change=np.transpose)})
    (found,) = (c for c in judged("gradient", plan, step) if c.verdict != "EQUIVALENT")
    assert (found.name, found.verdict.value) == ("linear.weight", "DIFFERENT")
    assert "(2, 3)" in found.detail
    assert "(3, 2)" in found.detail


@pytest.mark.parametrize("change", [np.ravel, lambda g: g[None], lambda g: g[:, :1]])
def test_a_gradient_of_another_shape_is_different_whatever_its_layout(change):
    plan, step = step_of(keras={"fault": changed("gradients", KERNEL, change=change)})
    assert wrong("gradient", plan, step) == {"linear.weight": "DIFFERENT"}


def test_a_gradient_counted_twice_is_different_by_its_whole_size():
    plan, step = step_of(keras={"fault": scaled("gradients", KERNEL, by=2.0)})
    found = judged("gradient", plan, step)[0]
    assert (found.verdict.value, found.error > 1) == ("DIFFERENT", True)


def test_permuted_rows_of_a_gradient_are_different_though_their_mean_is_not():
    plan, step = step_of(keras={"fault": changed("gradients", KERNEL, change=lambda g: g[::-1])})
    assert wrong("gradient", plan, step) == {"linear.weight": "DIFFERENT"}


def test_a_frozen_parameter_has_no_gradient_to_lack():
    plan, step = step_of(
        torch={"fault": dropped("gradients", "linear.bias")}, keras={"fault": dropped("gradients", BIAS)}
    )
    assert wrong("gradient", plan, step) == {"linear.bias": "INCONCLUSIVE"}  # as long as it is trained
    weight, bias = plan.matches
    untrained = (replace(piece, trained=()) for piece in (bias.torch_piece, bias.keras_piece))
    frozen = replace(plan, matches=(weight, replace(bias, **dict(zip(("torch_piece", "keras_piece"), untrained)))))
    assert [c.name for c in judged("gradient", frozen, step)] == ["linear.weight"]


def test_gradients_that_are_zero_on_both_sides_are_collected_by_step():
    plan, step = step_of(torch={"fault": zeros("linear.bias")}, keras={"fault": zeros(BIAS)})
    assert zero_gradients(plan, step) == {"linear.bias"}
    plan, step = step_of(torch={"fault": zeros("linear.bias")})
    assert zero_gradients(plan, step) == set()
    plan, step = step_of(torch={"fault": none("linear.bias")}, keras={"fault": zeros(BIAS)})
    assert zero_gradients(plan, step) == set()


def test_a_gradient_that_is_zero_in_every_step_is_inconclusive_once_for_the_run_unless_nothing_depends_on_it():
    plan, step = step_of(torch={"fault": zeros("linear.bias")}, keras={"fault": zeros(BIAS)})
    checks = judged("gradient", plan, step)
    open_ = unproven(plan, checks, {"linear.bias"})
    assert list(open_) == ["linear.bias"]
    *_, found = unreached(plan, checks, open_, {})
    assert (found.phase, found.step, found.name, found.verdict.value) == (
        "gradient", None, "linear.bias", "INCONCLUSIVE"
    )  # fmt: skip
    assert unreached(plan, checks, open_, {"linear.bias": "none"}) == checks
    assert unproven(plan, [], {"linear.bias"}) == {}  # the phase did not run
    assert unproven(plan, checks, set()) == {}


def test_gradients_that_neither_side_has_pass_only_where_nothing_depends_on_the_parameter():
    plan, step = step_of(torch={"fault": none("linear.bias")}, keras={"fault": none(BIAS)})
    checks = judged("gradient", plan, step)
    assert list(unproven(plan, checks, set())) == ["linear.bias"]
    found = without_gradient(plan, checks, {"linear.bias": "none"})
    assert found == {"linear.bias": "unused"}
    assert all(c.verdict == "EQUIVALENT" for c in excused(checks, found))
    assert without_gradient(plan, checks, {"linear.bias": "these"}) == {}
    assert [c.name for c in excused(checks, {}) if c.verdict == "INCONCLUSIVE"] == ["linear.bias"]


# Update ----------------------------------------------------------------------------------------------------------


def test_an_update_lost_in_the_rounding_of_a_large_weight_is_no_difference():
    def moved(by):
        return changed("after", "parameters", "w", change=lambda w: w + by)

    def record(by):
        start = changed("before", "parameters", "w", change=lambda _: np.array([1.0, 2.0]))
        end = changed("after", "parameters", "w", change=lambda _: np.array([1.0, 2.0]))
        return both(start, end, moved(by))

    plan, step = step_of(torch={"fault": record(1e-6)}, keras={"fault": record(1e-6 + 2.0**-52)})
    plan = replace(plan, matches=(plain("w", "w"),))
    assert wrong("update", plan, step) == {}
    plan, step = step_of(torch={"fault": record(1e-6)}, keras={"fault": record(1e-6 + 1e-12)})
    plan = replace(plan, matches=(plain("w", "w"),))
    assert wrong("update", plan, step) == {"w": "DIFFERENT"}


def spare(side: str, update: float) -> dict:
    """A side with a third parameter, which every step moves by `update`."""
    path = {"torch": "spare.weight", "keras": "spare/kernel"}[side]
    fault = changed("after", "parameters", path, change=lambda w: w + update)
    return {"extra": {path: (4,)}, "fault": fault}


def spare_pair(torch: float, keras: float) -> xcheck.Pair:
    weight_map = {**WEIGHT_MAP, "spare.weight": ("spare/kernel", "identity")}
    return linear_pair(torch=spare("torch", torch), keras=spare("keras", keras), weight_map=weight_map)


def test_a_tiny_update_is_not_allowed_to_be_a_hundred_times_too_large():
    plan, step = step_of(spare_pair(1e-11, 1e-9))
    assert wrong("update", plan, step) == {"spare.weight": "DIFFERENT"}


def test_an_update_that_is_a_rounding_error_of_its_weight_says_nothing_against_the_run():
    plan, step = step_of(spare_pair(4e-16, 0.0))
    assert wrong("update", plan, step) == {}


@pytest.mark.parametrize(("moved", "off", "verdict"), [(1, 3, None), (1, 6, "DIFFERENT"), (100, 3, "DIFFERENT")])
def test_what_an_optimizer_amplifies_in_one_element_may_be_as_far_off_as_its_gradient(moved, off, verdict):
    """Twins that move one element of the gradient by `moved` roundings, and of the update by 1e-12; a port that is off
    by `off` times what that would allow by itself. The gradient may be off by sqrt(24), about 5, roundings."""

    def first(by):
        return lambda a: a + by * (np.arange(a.size) == 0)

    plan, step = step_of(keras={"fault": changed("after", "parameters", BIAS, change=first(off * KAPPA * 1e-12))})
    scale = max(np.sqrt(np.mean(g**2)) for g in step.reference.record.gradients.values())
    by = moved * 2.0**-52 * scale
    twin = both(
        changed("gradients", "linear.bias", change=first(by)),
        changed("after", "parameters", "linear.bias", change=first(1e-12)),
    )(step.reference.record)
    step = replace(step, reference=replace(step.reference, twins=(twin,)))
    assert wrong("update", plan, step).get("linear.bias") == verdict


def test_the_updates_of_a_record_are_worked_out_once(monkeypatch):
    plan, step = step_of()
    worked_out = []
    original = StepRecord.updates
    monkeypatch.setattr(StepRecord, "updates", lambda self: worked_out.append(self) or original(self))
    judged("update", plan, step)
    assert len(worked_out) <= 2 + len(step.reference.twins)


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_slot_that_one_side_alone_keeps_is_different(side):
    path = {"torch": "linear.bias", "keras": BIAS}[side]
    fault = changed("after", "slots", path, "second_moment", change=lambda _: np.ones(2))
    plan, step = step_of(**{side: {"fault": fault}})
    assert wrong("update", plan, step) == {"linear.bias [second_moment]": "DIFFERENT"}


def test_a_slot_of_a_scalar_role_is_compared_without_a_layout():
    def product(path, value):
        return changed("after", "slots", path, "momentum_product", change=lambda _: np.array(value))

    faults = {"torch": {"fault": product("linear.weight", 0.9)}, "keras": {"fault": product(KERNEL, 0.9)}}
    assert wrong("update", *step_of(**faults)) == {}
    faults["keras"] = {"fault": product(KERNEL, 0.9 + 1e-9)}
    assert wrong("update", *step_of(**faults)) == {"linear.weight [momentum_product]": "DIFFERENT"}


# State -----------------------------------------------------------------------------------------------------------


def buffered(path: str, before, after):
    """A record with a buffer that the step takes from one value to another."""
    return both(
        changed("before", "buffers", path, change=lambda _: np.asarray(before)),
        changed("after", "buffers", path, change=lambda _: np.asarray(after)),
    )


MEANS = plain("norm.running_mean", "norm/moving_mean", buffer=True)


@pytest.mark.parametrize(("after", "verdict"), [([0.5, 0.25], None), ([0.5, 0.25 + 1e-9], "DIFFERENT")])
def test_a_buffer_is_compared_after_the_step(after, verdict):
    plan, step = step_of(
        torch={"fault": buffered("norm.running_mean", [0.0, 0.0], [0.5, 0.25])},
        keras={"fault": buffered("norm/moving_mean", [0.0, 0.0], after)},
    )
    plan = replace(plan, matches=(*plan.matches, MEANS))
    found = judged("state", plan, step)
    assert [(c.name, c.torch, c.keras) for c in found] == [
        ("norm.running_mean", "norm.running_mean", "norm/moving_mean")
    ]
    assert wrong("state", plan, step) == ({"norm.running_mean": verdict} if verdict else {})


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_buffer_without_a_counterpart_counts_only_if_the_step_changes_it(side):
    for after, expected in (([0.0, 1.0], {}), ([0.0, 1.5], {"ema": "INCONCLUSIVE"})):
        plan, step = step_of(**{side: {"fault": buffered("ema", [0.0, 1.0], after)}})
        plan = replace(plan, unmatched_buffers=((side, "ema"),))
        assert wrong("state", plan, step) == expected
        if expected:
            (found,) = judged("state", plan, step)
            assert (found.torch, found.keras) == (("ema", None) if side == "torch" else (None, "ema"))
            assert f"the {'keras' if side == 'torch' else 'torch'} side has no counterpart" in found.detail


def test_the_count_of_batches_is_no_state_unless_it_is_something_else_of_that_name():
    for before, after, expected in (
        (np.array(3), np.array(4), {}),
        (np.array(3.0), np.array(4.0), {"norm.num_batches_tracked": "INCONCLUSIVE"}),
    ):
        plan, step = step_of(torch={"fault": buffered("norm.num_batches_tracked", before, after)})
        plan = replace(plan, unmatched_buffers=(("torch", "norm.num_batches_tracked"),))
        assert wrong("state", plan, step) == expected


def test_a_buffer_that_stays_not_a_number_did_not_change():
    plan, step = step_of(torch={"fault": buffered("ema", [np.nan], [np.nan])})
    assert wrong("state", replace(plan, unmatched_buffers=(("torch", "ema"),)), step) == {}


# The free run ----------------------------------------------------------------------------------------------------


def drifted(plan: MatchPlan, step: StepPair):
    found = trajectory_checks(plan, step, "float64", Envelope())
    assert found is not None
    return found


def test_a_free_run_is_judged_by_its_total_loss_and_the_parameter_furthest_off():
    faults = both(scaled("after", "parameters", BIAS, by=1 + 1e-9), scaled("after", "parameters", KERNEL, by=1 + 1e-7))
    loss, parameter = drifted(*step_of(keras={"fault": faults}))
    assert (loss.phase, loss.name, loss.verdict.value) == ("trajectory", "total loss", "EQUIVALENT")
    assert (parameter.name, parameter.keras, parameter.verdict.value) == ("linear.weight", KERNEL, "DIFFERENT")
    loss, _ = drifted(*step_of(keras={"fault": scaled("losses", "total", by=1 + 1e-9)}))
    assert loss.verdict == "DIFFERENT"


def test_the_envelope_of_the_twins_is_what_a_free_run_may_drift_by():
    plan, step = step_of(keras={"fault": scaled("after", "parameters", KERNEL, by=1 + 1e-9)})
    assert drifted(plan, step)[1].verdict == "DIFFERENT"
    wide = scaled("after", "parameters", "linear.weight", by=1 + 1e-9)
    twins = tuple(wide(twin) for twin in step.reference.twins)
    step = replace(step, reference=replace(step.reference, twins=twins))
    assert drifted(plan, step)[1].verdict == "EQUIVALENT"


def test_where_the_twins_have_diverged_nothing_is_said():
    plan, step = step_of(keras={"fault": scaled("after", "parameters", KERNEL, by=1 + 1e-9)})
    for by in (2.0, np.inf):
        twins = tuple(scaled("losses", "total", by=by)(twin) for twin in step.reference.twins)
        apart = replace(step, reference=replace(step.reference, twins=twins))
        assert trajectory_checks(plan, apart, "float64", Envelope()) is None


def test_a_parameter_that_drifted_does_not_hide_behind_one_that_cannot_be_compared():
    broken = {"torch": "linear.bias", "keras": BIAS}
    faults = {
        side: {"fault": changed("after", "parameters", path, change=lambda b: b * np.nan)}
        for side, path in broken.items()
    }
    faults["keras"]["fault"] = both(faults["keras"]["fault"], scaled("after", "parameters", KERNEL, by=2.0))
    assert "DIFFERENT" in {c.verdict.value for c in drifted(*step_of(**faults))}


# Noise -----------------------------------------------------------------------------------------------------------


def test_the_longest_sum_is_the_largest_array_of_the_step():
    _, step = step_of()
    assert step.reference.sums == (24, 24)  # inputs (8, 3)
    _, step = step_of(torch={"fault": changed("outputs", "big", change=lambda _: np.zeros((50, 2)))})
    assert step.reference.sums == (100, 24)  # only the batch has terms that may be alike
    _, step = step_of(torch={"fault": changed("before", "parameters", "big", change=lambda _: np.zeros(200))})
    assert step.reference.sums == (200, 24)
