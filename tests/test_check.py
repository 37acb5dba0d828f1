"""The whole pipeline, on sides without a framework."""

import os
import sys
import types
from dataclasses import replace
from itertools import islice, product

import numpy as np
import pytest
from fakes import WEIGHT_MAP, bad, batches, both, changed, dropped, linear_pair, scaled

import xcheck
from xcheck.errors import BatchError, InequivalenceError, MatchError, PairError, SetupError, UserCodeError
from xcheck.frameworks.fake.runner import NumpyRunner
from xcheck.frameworks.sides import choose_backend
from xcheck.pairs.pair import KerasSide
from xcheck.phases import AVAILABLE


def faulty(torch, keras) -> xcheck.Pair:
    """A pair with a fault on each side."""
    return linear_pair(torch={"fault": torch}, keras={"fault": keras})


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("seed", [0, 1])
def test_two_sides_that_are_the_same_are_equivalent_and_everything_was_compared(reference, seed):
    result = xcheck.check(linear_pair(reference=reference), steps=5, seed=seed, reach="none")
    result.assert_equivalent(strict=True)
    assert result.first_divergence is None
    assert bad(result) == []
    assert {(c.phase, c.precision, c.step) for c in result.checks} == {
        ("inventory", None, None),
        ("sync", "float64", None),
        *product(("forward", "loss", "gradient", "update"), ("float64", "float32"), range(1, 6)),
        *product(("forward", "loss", "gradient", "update"), ("float64",), (6,)),  # at weights of ordinary size
        *product(("trajectory",), ("float64",), range(1, 21)),
    }
    assert result.coverage == {
        "parameters": {"matched": 2, "waived": 0, "unmatched": 0},
        "gradients": {"compared": 10, "missing": 0},
        "outputs": {"compared": 10, "missing": 0},
    }
    assert (result.pair, result.seed, result.steps, result.failure, result.notes) == ("linear", seed, 5, None, ())
    assert set(result.timings) == {"sides", "match", "train", "compare"}
    assert result.environment["torch"] == result.environment["keras"] == {"numpy": np.__version__}
    assert result.environment["device"] == "cpu"


def test_the_checks_stand_in_the_order_of_the_dataflow():
    result = xcheck.check(linear_pair(), steps=2)

    def place(check: xcheck.Check) -> tuple[bool, bool, int, int]:
        return check.phase == "trajectory", check.precision == "float32", check.step or 0, AVAILABLE.index(check.phase)

    order = [place(check) for check in result.checks]
    assert order == sorted(order)


def test_the_same_seed_gives_the_same_numbers():
    first, second = (xcheck.check(linear_pair(), steps=2, seed=3) for _ in range(2))
    assert first.checks == second.checks
    assert first.checks != xcheck.check(linear_pair(), steps=2, seed=4).checks


@pytest.mark.parametrize(
    ("keras", "phase", "step", "name"),
    [
        ({"learning_rate": 0.1 + 1e-9}, "update", 1, "linear.weight"),
        ({"momentum": 0.9 + 1e-9}, "update", 2, "linear.weight"),
        ({"prepare": lambda b: (b.inputs * (1 + 1e-9), b.targets)}, "forward", 1, "output (inference)"),
        ({"prepare": lambda b: (b.inputs, b.targets * (1 + 1e-9))}, "loss", 1, "data"),
        ({"prepare": lambda b: (b.inputs[::-1], b.targets)}, "forward", 1, "output (inference)"),
        ({"fault": scaled("gradients", "dense/bias", by=1 + 1e-9)}, "gradient", 1, "linear.bias"),
    ],
)
def test_a_port_that_is_off_by_a_billionth_parts_where_the_fault_is(keras, phase, step, name):
    result = xcheck.check(linear_pair(keras=keras), steps=3)
    assert result.verdict == "DIFFERENT"
    assert bad(result)[0] == (phase, step, name, "DIFFERENT")
    found = result.first_divergence
    assert (found.phase, found.step, found.name, found.precision) == (phase, step, name, "float64")
    assert found.local_error > found.allowed
    with pytest.raises(InequivalenceError, match="DIFFERENT  linear"):
        result.assert_equivalent()


def test_the_first_divergence_is_the_first_of_several_and_all_are_listed():
    fault = both(
        scaled("after", "parameters", "dense/bias", step=1),
        scaled("outputs", "output", step=2),
        scaled("losses", "total", step=2),
    )
    result = xcheck.check(linear_pair(keras={"fault": fault}), steps=3)
    assert bad(result) == [
        ("update", 1, "linear.bias", "DIFFERENT"),
        ("forward", 2, "output (training)", "DIFFERENT"),
        ("loss", 2, "total", "DIFFERENT"),
    ]
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 1)


def test_an_inconclusive_check_before_a_difference_is_no_divergence():
    lost = changed("gradients", "linear.bias", change=lambda _: None)
    keras = both(changed("gradients", "dense/bias", change=lambda _: None), scaled("after", "parameters", "dense/bias"))
    result = xcheck.check(linear_pair(torch={"fault": lost}, keras={"fault": keras}), steps=1)
    assert bad(result) == [("gradient", 1, "linear.bias", "INCONCLUSIVE"), ("update", 1, "linear.bias", "DIFFERENT")]
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.phase == "update"
    assert result.coverage["gradients"] == {"compared": 1, "missing": 1}


@pytest.mark.parametrize("wrong", ["torch", "keras"])
@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_names_values_and_sides_stay_with_their_side_whichever_is_the_reference(reference, wrong):
    path = {"torch": "linear.bias", "keras": "dense/bias"}
    fault = changed("gradients", path[wrong], change=lambda g: np.array([77.0, 0.0]))
    result = xcheck.check(linear_pair(reference=reference, **{wrong: {"fault": fault}}), steps=1)
    (check,) = (c for c in result.checks if c.verdict == "DIFFERENT")
    assert (check.phase, check.name) == ("gradient", path[reference])
    assert (check.torch, check.keras, check.worst_index) == ("linear.bias", "dense/bias", (0,))
    values = {"torch": check.torch_value, "keras": check.keras_value}
    assert values.pop(wrong) == 77.0
    assert abs(next(iter(values.values()))) < 20


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_the_worst_index_is_in_the_layout_of_the_reference(reference):
    def nudge(gradient):
        gradient = gradient.copy()
        gradient[2, 1] += 1e-6
        return gradient

    fault = changed("gradients", "dense/kernel", change=nudge)
    result = xcheck.check(linear_pair(reference=reference, keras={"fault": fault}), steps=1)
    (check,) = (c for c in result.checks if c.verdict == "DIFFERENT")
    assert check.worst_index == ((1, 2) if reference == "torch" else (2, 1))


# Coverage --------------------------------------------------------------------------------------------------------


def test_a_gradient_that_is_zero_throughout_is_inconclusive_once():
    result = xcheck.check(
        faulty(
            torch=changed("gradients", "linear.bias", change=np.zeros_like),
            keras=changed("gradients", "dense/bias", change=np.zeros_like),
        ),
        steps=3,
    )
    assert bad(result) == [("gradient", None, "linear.bias", "INCONCLUSIVE")]


def test_a_gradient_that_is_zero_in_some_steps_was_compared_in_the_others():
    result = xcheck.check(
        faulty(
            torch=changed("gradients", "linear.bias", change=np.zeros_like, step=2),
            keras=changed("gradients", "dense/bias", change=np.zeros_like, step=2),
        ),
        steps=3,
    )
    assert result.verdict == "EQUIVALENT"


def test_gradients_that_neither_side_reports_of_what_both_train_are_not_equivalent():
    def mute(record):
        return replace(record, gradients={})

    result = xcheck.check(faulty(torch=mute, keras=mute), steps=1)
    assert result.verdict == "INCONCLUSIVE"


def test_one_gradient_that_neither_side_reports_of_what_both_train_is_not_equivalent():
    torch, keras = dropped("gradients", "linear.bias"), dropped("gradients", "dense/bias")
    result = xcheck.check(faulty(torch=torch, keras=keras), steps=1)
    assert result.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_parameter_that_one_side_alone_has_and_nothing_depends_on_is_unused_or_waived(side):
    path = {"torch": "spare.weight", "keras": "spare/kernel"}[side]
    pair = linear_pair(**{side: {"extra": {path: (4,)}}})
    result = xcheck.check(pair, steps=1)
    assert result.verdict == "EQUIVALENT"
    assert result.coverage["parameters"] == {"matched": 2, "waived": 0, "unmatched": 0, "unused": 1}
    waived = replace(pair, weight_map={**WEIGHT_MAP, path: xcheck.waive("never used")})
    result = xcheck.check(waived, steps=1, reach="none")
    assert result.verdict == "EQUIVALENT"
    assert result.coverage["parameters"] == {"matched": 2, "waived": 1, "unmatched": 0}
    assert result.notes == (f"waived: {path} (never used)",)


@pytest.mark.parametrize("phases", [("sync",), ("sync", "forward"), ("forward",)])
def test_a_parameter_without_a_counterpart_is_not_equivalent_whichever_phases_were_asked_for(phases):
    result = xcheck.check(linear_pair(torch={"extra": {"spare.weight": (4,)}}), steps=1, phases=phases)
    assert result.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("phases", [None, ("sync",), ("sync", "forward"), ("forward",)])
def test_without_a_parameter_that_reaches_the_outputs_no_step_is_run(phases):
    short = {"linear.weight": "dense/kernel", "linear.bias": "spare/bias"}
    keras = {"extra": {"spare/bias": (2,)}}
    result = xcheck.check(linear_pair(weight_map=short, keras=keras), steps=1, phases=phases)
    assert result.verdict == "INCONCLUSIVE"
    assert {c.step for c in result.checks} == {None}
    assert any("no step was run" in note for note in result.notes)


def test_a_pair_with_everything_waived_is_inconclusive():
    everything = ("linear.weight", "linear.bias", "dense/kernel", "dense/bias")
    result = xcheck.check(linear_pair(weight_map={path: xcheck.waive("no") for path in everything}), steps=1)
    assert bad(result)[0] == ("inventory", None, "parameters", "INCONCLUSIVE")
    assert "no gradient was compared" in result.notes[-1]


def test_nothing_compared_is_inconclusive():
    result = xcheck.check(linear_pair(), steps=1, phases=())
    assert (result.checks, result.verdict) == ((), "INCONCLUSIVE")


def test_a_reference_that_does_not_repeat_itself_is_not_equivalent_to_anything():
    rng = np.random.default_rng(0)
    noisy = changed("gradients", "linear.weight", change=lambda g: g * (1 + 1e-3 * rng.standard_normal(g.shape)))
    wrong = scaled("gradients", "dense/kernel", by=1 + 1e-3)
    result = xcheck.check(linear_pair(torch={"fault": noisy}, keras={"fault": wrong}), steps=2)
    assert result.verdict == "INCONCLUSIVE"
    found = [c for c in result.checks if c.name == "repeatability of the torch step"]
    assert [(c.step, c.verdict.value) for c in found] == [(1, "INCONCLUSIVE"), (2, "INCONCLUSIVE")]
    assert "draws random numbers" in found[0].detail


# Ties ------------------------------------------------------------------------------------------------------------


def copies(torch_tied: bool, keras_tied: bool, **options) -> xcheck.Pair:
    return linear_pair(
        torch={"copies": 2, "tied": torch_tied},
        keras={"copies": 2, "tied": keras_tied},
        weight_map={**WEIGHT_MAP, "linear_1.weight": "dense_1/kernel"},
        **options,
    )


def test_a_tie_of_both_sides_is_reported_as_the_same():
    result = xcheck.check(copies(True, True), steps=1)
    result.assert_equivalent()
    assert [(t.torch, t.keras, t.status) for t in result.ties] == [
        (("linear.weight", "linear_1.weight"), ("dense/kernel", "dense_1/kernel"), "same")
    ]


@pytest.mark.parametrize("torch_tied", [True, False])
def test_a_tie_of_one_side_alone_is_different_though_the_values_are_equal(torch_tied):
    result = xcheck.check(copies(torch_tied, not torch_tied), steps=1)
    assert (result.first_divergence.phase, result.first_divergence.name) == ("inventory", "tie of linear.weight")
    assert [t.status for t in result.ties] == ["equal_but_untied" if torch_tied else "extra"]
    assert all(c.verdict == "EQUIVALENT" for c in result.checks if c.phase in ("sync", "forward", "loss"))


def test_a_promise_of_the_pair_that_neither_side_keeps_is_different():
    pair = copies(False, False, ties=[["linear.weight", "linear_1.weight"]])
    assert bad(xcheck.check(pair, steps=1))[0] == ("inventory", None, "promised tie of linear.weight", "DIFFERENT")
    with pytest.raises(MatchError, match="not all on one side"):
        xcheck.check(replace(pair, ties=[["linear.weight", "typo"]]), steps=1)


# Float32 and the free run ----------------------------------------------------------------------------------------


def test_a_side_that_loses_much_more_in_float32_alone_is_numeric(monkeypatch):
    original = NumpyRunner.step

    def step(self, number, batch, *, observe=True):
        record = original(self, number, batch, observe=observe)
        if (self.side, self.precision, observe) == ("keras", "float32", True):
            record = scaled("gradients", "dense/bias", by=1 + 1e-4)(record)
        return record

    monkeypatch.setattr(NumpyRunner, "step", step)
    result = xcheck.check(linear_pair(), steps=2)
    assert bad(result) == [("gradient", 1, "linear.bias", "NUMERIC"), ("gradient", 2, "linear.bias", "NUMERIC")]
    assert result.verdict == "NUMERIC"
    result.assert_equivalent()
    with pytest.raises(InequivalenceError):
        result.assert_equivalent(strict=True)
    assert xcheck.check(linear_pair(), steps=2, precision=("float64",)).verdict == "EQUIVALENT"


def forgetful(monkeypatch):
    """Between its steps the keras side forgets its momentum; setting it from the reference hides that."""
    original = NumpyRunner.step

    def step(self, number, batch, *, observe=True):
        record = original(self, number, batch, observe=observe)
        if self.side == "keras":
            self._momenta = {}
        return record

    monkeypatch.setattr(NumpyRunner, "step", step)


def test_what_setting_the_state_anew_hides_shows_in_the_free_run(monkeypatch):
    forgetful(monkeypatch)
    result = xcheck.check(linear_pair(), steps=3, free_steps=4)
    assert all(c.verdict == "EQUIVALENT" for c in result.checks if c.phase != "trajectory")
    assert result.verdict == "DIFFERENT"
    assert (result.first_divergence.phase, result.first_divergence.step) == ("trajectory", 2)
    assert {c.step for c in result.checks if c.phase == "trajectory"} == {1, 2, 3, 4}


def test_the_free_run_and_float32_wait_until_the_steps_agree():
    result = xcheck.check(linear_pair(keras={"learning_rate": 0.2}), steps=1)
    assert {c.precision for c in result.checks} == {None, "float64"}
    assert "trajectory" not in {c.phase for c in result.checks}


def test_the_free_run_is_a_phase_that_can_be_left_out(monkeypatch):
    forgetful(monkeypatch)
    phases = tuple(phase for phase in AVAILABLE if phase not in ("trajectory", "export"))
    assert xcheck.check(linear_pair(), steps=2, phases=phases).verdict == "EQUIVALENT"


def three_batches(seed: int) -> list[xcheck.Batch]:
    return list(islice(batches(seed), 3))


def test_as_many_batches_as_steps_are_enough_and_the_free_run_takes_what_there_is():
    result = xcheck.check(linear_pair(batches=three_batches), steps=3)
    assert result.verdict == "EQUIVALENT"
    assert {c.step for c in result.checks if c.phase == "trajectory"} == {1, 2, 3}


def test_free_steps_that_were_asked_for_need_their_batches():
    with pytest.raises(BatchError, match="too few batches") as caught:
        xcheck.check(linear_pair(batches=three_batches), steps=3, free_steps=5)
    assert "3 batches for 5 steps" in str(caught.value)
    assert "--free-steps 3" in str(caught.value)
    assert {c.step for c in caught.value.result.checks if c.phase == "trajectory"} == {1, 2, 3}


def test_no_free_step_is_none_or_refused():
    try:
        result = xcheck.check(linear_pair(), steps=1, free_steps=0)
    except PairError:
        return
    assert "trajectory" not in {c.phase for c in result.checks}


# Phases ----------------------------------------------------------------------------------------------------------


def test_a_choice_of_phases_is_run_alone_and_noted():
    fault = both(scaled("outputs", "output"), scaled("gradients", "dense/bias"))
    result = xcheck.check(linear_pair(keras={"fault": fault}), steps=1, phases=("loss", "gradient"))
    assert {c.phase for c in result.checks} == {"loss", "gradient"}
    assert bad(result) == [("gradient", 1, "linear.bias", "DIFFERENT")]
    assert result.notes == ("only these phases were requested: loss, gradient",)


def test_all_phases_by_name_are_no_choice():
    result = xcheck.check(linear_pair(), steps=1, phases=tuple(reversed(AVAILABLE)))
    assert not [note for note in result.notes if "asked for" in note]
    assert result.checks[0].phase == "inventory"


def test_a_run_without_the_gradient_phase_says_nothing_on_gradients():
    result = xcheck.check(linear_pair(), steps=1, phases=("forward",))
    assert not [note for note in result.notes if "gradient" in note]


def test_a_phase_that_is_not_there_is_refused():
    with pytest.raises(PairError, match="Unknown phase 'gradients'") as caught:
        xcheck.check(linear_pair(), phases=("forward", "gradients"))
    assert "choose from: inventory" in str(caught.value)


# Mistakes and what they leave behind -----------------------------------------------------------------------------


def failing_at(step: int):
    seen = []

    def prepare(batch):
        if not any(np.array_equal(batch.inputs, other.inputs) for other in seen):
            seen.append(batch)
        if len(seen) == step:
            raise FileNotFoundError("shard-3.npz")
        return batch.inputs, batch.targets

    return prepare


def test_what_was_computed_before_a_mistake_is_kept():
    pair = linear_pair(keras={"prepare": failing_at(2), "learning_rate": 0.2})
    with pytest.raises(UserCodeError, match="keras prepare raised FileNotFoundError") as caught:
        xcheck.check(pair, steps=3)
    kept = caught.value.result
    assert {c.step for c in kept.checks} == {None, 1}
    assert kept.verdict == "DIFFERENT"
    assert (kept.first_divergence.phase, kept.first_divergence.step) == ("update", 1)
    assert "shard-3.npz" in kept.failure
    assert kept.environment["keras"] == {"numpy": np.__version__}
    assert kept.ties == ()


def test_a_run_that_fails_is_inconclusive_though_all_before_was_equal():
    with pytest.raises(UserCodeError) as caught:
        xcheck.check(linear_pair(keras={"prepare": failing_at(2)}), steps=3)
    assert caught.value.result.verdict == "INCONCLUSIVE"
    assert bad(caught.value.result) == []


def test_batches_that_end_early_leave_the_steps_before():
    with pytest.raises(BatchError, match="too few batches") as caught:
        xcheck.check(linear_pair(batches=three_batches), steps=4)
    assert {c.step for c in caught.value.result.checks} == {None, 1, 2, 3}


def test_a_weight_map_that_cannot_be_used_leaves_a_result_without_checks():
    with pytest.raises(MatchError) as caught:
        xcheck.check(linear_pair(weight_map={"linear.wieght": "dense/kernel"}))
    assert caught.value.result.checks == ()
    assert caught.value.result.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("weight_map", [None, {}, {"linear.bias": "dense/bias"}])
@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_what_a_pair_does_not_map_is_matched_by_itself(weight_map, reference):
    result = xcheck.check(linear_pair(weight_map=weight_map, reference=reference), steps=1)
    assert result.verdict == "EQUIVALENT", result.report()
    found = {(c.torch, c.keras) for c in result.checks if c.phase == "sync"}
    assert found == {("linear.weight", "dense/kernel"), ("linear.bias", "dense/bias")}
    assert f"matched without a map: {1 if weight_map else 2} by value, 0 only by structure" in result.notes


def test_a_side_that_is_something_else_is_refused():
    with pytest.raises(PairError, match=r"Pair\.keras must be") as caught:
        xcheck.check(replace(linear_pair(), keras="a model"))
    assert "got str" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "at least one step"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"precision": ("float32",)}, "must be float64"),
        ({"precision": ()}, "must be float64"),
        ({"precision": ("float64", "float16")}, "must be float64"),
    ],
)
def test_what_cannot_be_run_is_refused(options, words):
    with pytest.raises(PairError, match=words) as caught:
        xcheck.check(linear_pair(), **options)
    assert caught.value.result is not None


@pytest.mark.parametrize("failing", [None, "torch", "keras"])
def test_every_side_that_was_opened_is_closed_and_its_notes_are_kept(monkeypatch, failing):
    opened, closed = [], []
    original = NumpyRunner.__init__

    def opening(self, declared, **options):
        opened.append(self)
        original(self, declared, **options)

    monkeypatch.setattr(NumpyRunner, "__init__", opening)
    monkeypatch.setattr(NumpyRunner, "close", lambda self: closed.append(self))
    monkeypatch.setattr(NumpyRunner, "notes", lambda self: [f"{self.side} was slow"])
    pair = linear_pair(**({failing: {"prepare": failing_at(1)}} if failing else {}))
    if failing:
        with pytest.raises(UserCodeError) as caught:
            xcheck.check(pair, steps=1)
        result = caught.value.result
    else:
        result = xcheck.check(pair, steps=1)
    assert {runner.side for runner in opened} == {"torch", "keras"}
    assert sorted(map(id, closed)) == sorted(map(id, opened))
    assert {"torch was slow", "keras was slow"} <= set(result.notes)


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_slot_without_a_known_role_is_judged_by_the_next_updates(monkeypatch, side):
    monkeypatch.setattr(NumpyRunner, "unmapped_slots", lambda self: ["Lion.m"] if self.side == side else [])
    result = xcheck.check(linear_pair(), steps=1, free_steps=0)
    assert bad(result) == [("update", 1, "Lion.m", "INCONCLUSIVE")]
    result = xcheck.check(linear_pair(), steps=2, free_steps=0)
    assert bad(result) == []
    assert any("Lion.m" in note for note in result.notes)


def test_progress_tells_of_every_side_and_step():
    told = []
    xcheck.check(linear_pair(), steps=2, progress=told.append)
    assert [line.partition(", about")[0] for line in told[:5]] == [
        "building the torch side in float64",
        "building the keras side in float64",
        "matching",
        "float64: step 1 of 2",
        "float64: step 2 of 2",
    ]
    assert [word.partition(", about")[0] for word in told if word.startswith(("float32:", "free run:"))] == [
        *(f"float32: step {number} of 2" for number in (1, 2)),
        *(f"free run: step {number} of 20" for number in range(1, 21)),
    ]


# Expectations ----------------------------------------------------------------------------------------------------


def test_a_negative_control_that_shows_what_it_declares_holds_and_keeps_its_verdict():
    expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "update")
    result = xcheck.check(linear_pair(keras={"learning_rate": 0.2}, expect=expect), steps=1)
    assert (result.verdict, result.expected, result.expectation["held"]) == ("DIFFERENT", "DIFFERENT", True)


def test_a_negative_control_that_shows_nothing_does_not_hold():
    result = xcheck.check(linear_pair(expect="DIFFERENT"), steps=1)
    assert (result.verdict, result.expectation["held"]) == ("EQUIVALENT", False)
    assert "expected DIFFERENT, got EQUIVALENT" in result.expectation["why"]


# Backends --------------------------------------------------------------------------------------------------------


def test_the_keras_backend_is_chosen_before_keras_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    choose_backend(replace(linear_pair(), keras=KerasSide(object())), "jax")
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_a_keras_that_runs_on_another_backend_is_refused(monkeypatch):
    running = types.SimpleNamespace(config=types.SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setitem(sys.modules, "keras", running)
    pair = replace(linear_pair(), keras=KerasSide(object()))
    choose_backend(pair, "tensorflow")
    with pytest.raises(SetupError, match="different backend") as caught:
        choose_backend(pair, "jax")
    assert "wanted jax, active tensorflow" in str(caught.value)
