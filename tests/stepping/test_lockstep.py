"""Re-synced steps: what each starts from, what it is not touched by, and the perturbed twins."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fakes import bad, batches, dropped, linear_pair, plan_of, runner_of, scaled, steps_of

import xcheck
from xcheck.errors import BatchError, UserCodeError
from xcheck.frameworks.fake.runner import NumpyRunner
from xcheck.pairs.batches import batches_of
from xcheck.records.trace import State, StepRecord
from xcheck.stepping.free_run import free_running, in_turns
from xcheck.stepping.lockstep import REPEATED, in_float32, reference_steps, resynced


def records_equal(left: StepRecord, right: StepRecord) -> bool:
    mine, theirs = dict(left.items()), dict(right.items())
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k]) for k in mine)


def batch(**parts) -> xcheck.Batch:
    rng = np.random.default_rng(7)
    return xcheck.Batch(**{"inputs": rng.standard_normal((8, 3)), "targets": rng.standard_normal((8, 2)), **parts})


# Batches ---------------------------------------------------------------------------------------------------------


def test_as_many_batches_are_drawn_as_there_are_steps_and_the_seed_decides_which():
    drawn = []

    def counted(seed):
        for each in batches(seed):
            drawn.append(seed)
            yield each

    made = list(batches_of(linear_pair(batches=counted), seed=5, steps=3))
    assert drawn == [5, 5, 5]
    again = list(batches_of(linear_pair(), seed=5, steps=3))
    other = list(batches_of(linear_pair(), seed=6, steps=3))
    assert [b.digest() for b in made] == [b.digest() for b in again]
    assert not {b.digest() for b in made} & {b.digest() for b in other}


def test_batches_that_end_before_the_steps_do_are_counted():
    iterator = batches_of(linear_pair(batches=lambda _: [batch(), batch()]), 0, 5)
    assert next(iterator).size == next(iterator).size == 8
    with pytest.raises(BatchError, match="too few batches") as caught:
        next(iterator)
    assert "2 batches for 5 steps" in str(caught.value)
    assert "--steps 2" in str(caught.value)


def test_who_is_content_with_fewer_batches_gets_as_many_as_there_are():
    pair = linear_pair(batches=lambda _: [batch(), batch()])
    assert len(list(batches_of(pair, 0, 5, fewer=True))) == 2
    assert len(list(batches_of(pair, 0, 1, fewer=True))) == 1


def test_what_is_no_batch_is_refused_with_its_number():
    with pytest.raises(BatchError, match=r"not an xcheck\.Batch") as caught:
        list(batches_of(linear_pair(batches=lambda _: [batch(), (1, 2)]), 0, 2))
    assert "batch 2" in str(caught.value)
    assert "got tuple" in str(caught.value)


X = np.ones((8, 3))


@pytest.mark.parametrize(
    "second",
    [
        {"inputs": {"a": X}},
        {"inputs": {"x": X, "y": X}},
        {"inputs": X},
        {"inputs": (X,)},
        {"targets": None},
        {"targets": {"t": X}},
    ],
)
def test_a_batch_with_other_arrays_than_the_first_is_refused(second):
    first = batch(inputs={"x": X})
    made = batches_of(linear_pair(batches=lambda _: [first, replace(first, **second)]), 0, 2)
    next(made)
    with pytest.raises(BatchError, match="differ from those of the first") as caught:
        next(made)
    assert "batch 2" in str(caught.value)


def test_a_batch_of_another_size_is_a_batch():
    sizes = [b.size for b in batches_of(linear_pair(batches=lambda _: [batch(), batch(inputs=X[:5])]), 0, 2)]
    assert sizes == [8, 5]


@pytest.mark.parametrize("late", [False, True])
def test_batches_that_raise_are_the_users_code(late):
    def broken(seed):
        if late:
            yield batch()
        raise KeyError("train.csv")

    with pytest.raises(UserCodeError, match="batches raised KeyError") as caught:
        list(batches_of(linear_pair(batches=broken), 0, 2))
    assert "test_lockstep.py" in str(caught.value)
    assert "train.csv" in str(caught.value)


# The reference and its twins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_twins_leave_the_reference_exactly_where_it_was(reference):
    pair = linear_pair(reference=reference)

    def train(twins: int | None) -> tuple[list[StepRecord], State]:
        runner, given = runner_of(pair, reference), batches_of(pair, 0, 4)
        if twins is None:
            return [runner.step(number, batch) for number, batch in enumerate(given, 1)], runner.read()
        made = reference_steps(runner, given, precision="float64", seed=0, twins=twins)
        return [step.record for step in made], runner.read()

    (alone, end), (with_twins, end_with_twins) = train(None), train(2)
    assert all(records_equal(a, b) for a, b in zip(alone, train(0)[0], strict=True))
    assert all(records_equal(a, b) for a, b in zip(alone, with_twins, strict=True))
    assert [r.after.updates for r in with_twins] == [1, 2, 3, 4]
    for path, array in end.parameters.items():
        assert np.array_equal(array, end_with_twins.parameters[path])
        assert np.array_equal(end.slots[path]["momentum"], end_with_twins.slots[path]["momentum"])


def test_each_twin_is_another_run_one_rounding_error_away():
    _, steps = steps_of(linear_pair(), steps=2)
    seen = []
    for step in steps:
        assert len(step.reference.twins) == 2
        for twin in step.reference.twins:
            start, there = step.reference.record.before.parameters, twin.before.parameters
            for path in start:
                moved = np.abs(there[path] / start[path] - 1)
                assert 0 < moved.max() <= 2.0**-51
            assert not records_equal(step.reference.record, twin)
            seen.append(there["linear.weight"])
    assert len({array.tobytes() for array in seen}) == 4
    signs = [
        np.sign(twin.before.parameters["linear.weight"] - step.reference.record.before.parameters["linear.weight"])
        for step in steps
        for twin in step.reference.twins
    ]
    assert len({array.tobytes() for array in signs}) == 4


def test_twins_keep_slots_buffers_integers_and_targets_as_they_are():
    given = []

    class Watching(NumpyRunner):
        def step(self, number, batch, *, observe=True):
            given.append((batch, self.read()))
            return super().step(number, replace(batch, inputs=batch.inputs["x"]), observe=observe)

    pair = linear_pair(batches=lambda _: [batch(inputs={"x": X * 1.1, "ids": np.arange(8)})] * 2)
    runner = Watching(pair.torch, precision="float64", device="cpu", seed=0)
    list(reference_steps(runner, batches_of(pair, 0, 2), precision="float64", seed=0))
    assert len(given) == 8
    real, again, *twins = given[4:]
    assert again[0].digest() == real[0].digest()
    for twin, state in twins:
        assert not np.array_equal(twin.inputs["x"], real[0].inputs["x"])
        assert np.array_equal(twin.inputs["ids"], real[0].inputs["ids"])
        assert np.array_equal(twin.targets, real[0].targets)
        for path, roles in real[1].slots.items():
            assert np.array_equal(state.slots[path]["momentum"], roles["momentum"])


def test_the_same_seed_gives_the_same_twins_and_another_seed_others():
    def twin(seed):
        runner = runner_of(linear_pair(), "torch")
        return next(reference_steps(runner, [batch()], precision="float64", seed=seed)).twins[0]

    assert records_equal(twin(1), twin(1))
    assert not records_equal(twin(1), twin(2))


def test_a_step_that_reads_nothing_but_its_state_repeats_itself():
    _, steps = steps_of(linear_pair(), steps=REPEATED + 2)
    assert all(step.reference.repeatable for step in steps)


def test_a_step_that_hides_a_counter_does_not_repeat_itself_and_is_asked_in_the_first_steps_alone():
    calls = []

    def hidden(record):
        calls.append(record.step)
        return scaled("losses", "data", by=float(len(calls)))(record)

    _, steps = steps_of(linear_pair(torch={"fault": hidden}), steps=REPEATED + 1)
    assert [step.reference.repeatable for step in steps] == [False] * REPEATED + [True]
    assert [calls.count(number) for number in range(1, REPEATED + 2)] == [4] * REPEATED + [3]


@pytest.mark.parametrize("first", [True, False])
def test_a_step_that_reports_other_things_when_it_is_made_again_does_not_repeat_itself(first):
    calls = []

    def sometimes(record):
        calls.append(record)
        return dropped("outputs", "output")(record) if (len(calls) == 1) == first else record

    _, (step,) = steps_of(linear_pair(torch={"fault": sometimes}))
    assert not step.reference.repeatable


# The other side --------------------------------------------------------------------------------------------------


def test_every_step_starts_from_the_state_of_the_reference():
    plan, steps = steps_of(linear_pair(), steps=3)
    for step in steps:
        sent = plan.for_follower(step.reference.record.before, slots=True)
        for path, array in step.follower.before.parameters.items():
            assert np.array_equal(array, sent.parameters[path])
    assert [s.number for s in steps] == [s.follower.step for s in steps] == [1, 2, 3]
    slots = [s.follower.before.slots for s in steps]
    assert slots[0] == {}  # what an optimizer starts with is its own
    sent = plan.for_follower(steps[2].reference.record.before, slots=True).slots
    assert np.array_equal(slots[2]["dense/kernel"]["momentum"], sent["dense/kernel"]["momentum"])


def test_at_first_the_other_side_keeps_the_slots_it_was_built_with():
    pair = linear_pair()
    reference = runner_of(pair, "torch")
    reference.write(State(slots={"linear.bias": {"momentum": np.full(2, 9.0)}}))
    made = reference_steps(reference, batches_of(pair, 0, 2), precision="float64", seed=0)
    first, second = resynced(made, runner_of(pair, "keras"), plan_of(pair))
    assert first.reference.record.before.slots["linear.bias"]["momentum"].tolist() == [9.0, 9.0]
    assert first.follower.before.slots == {}
    assert set(second.follower.before.slots) == {"dense/kernel", "dense/bias"}


class Derailed(NumpyRunner):
    """After its first step this side holds other weights and slots than its record says."""

    def step(self, number, batch, *, observe=True):
        record = super().step(number, batch, observe=observe)
        if number == 1:
            self._parameters = {p: v + 1.0 for p, v in self._parameters.items()}
            self._momenta = {p: v * 2.0 for p, v in self._momenta.items()}
        return record


def test_a_state_that_was_spoilt_after_a_step_does_not_reach_the_next():
    pair = linear_pair()
    plan = plan_of(pair)

    def follower_records(cls):
        made = reference_steps(runner_of(pair, "torch"), batches_of(pair, 0, 3), precision="float64", seed=0)
        side = cls(pair.keras, precision="float64", device="cpu", seed=0)
        return [s.follower for s in resynced(made, side, plan)]

    for sound, spoilt in zip(follower_records(NumpyRunner), follower_records(Derailed), strict=True):
        assert records_equal(sound, spoilt)


@pytest.mark.parametrize("wrong", [1, 2, 4])
def test_a_step_that_alone_is_wrong_is_found_at_that_step_and_at_no_other(wrong):
    fault = scaled("after", "parameters", "dense/kernel", by=1 + 1e-9, step=wrong)
    result = xcheck.check(linear_pair(keras={"fault": fault}), steps=4)
    assert bad(result) == [("update", wrong, "linear.weight", "DIFFERENT")]
    assert {c.step for c in result.checks} == {None, 1, 2, 3, 4}


def test_the_reference_never_learns_of_the_other_side():
    _, sound = steps_of(linear_pair(), steps=3)
    _, other = steps_of(linear_pair(keras={"learning_rate": 0.7}), steps=3)
    assert all(records_equal(a.reference.record, b.reference.record) for a, b in zip(sound, other, strict=True))


# The free run ----------------------------------------------------------------------------------------------------


def free(follower_class=NumpyRunner, steps=4, **pair):
    pair = linear_pair(**pair)
    reference, *twins = (runner_of(pair, "torch", seed) for seed in (0, 1, 2))
    follower = follower_class(pair.keras, precision="float64", device="cpu", seed=0)
    run = free_running(
        reference, twins, follower, plan_of(pair), batches_of(pair, 0, steps), precision="float64", seed=0
    )
    return list(run)


def test_a_free_run_that_takes_turns_in_one_runner_is_the_same_one():
    pair = linear_pair()
    reference, *twins = in_turns(runner_of(pair, "torch", 0), 3)
    follower = NumpyRunner(pair.keras, precision="float64", device="cpu", seed=0)
    given = batches_of(pair, 0, 4)
    run = free_running(reference, twins, follower, plan_of(pair), given, precision="float64", seed=0)
    for mine, apart in zip(run, free(), strict=True):
        sides = ((mine.reference.record, apart.reference.record), (mine.follower, apart.follower))
        assert all(records_equal(a, b) for a, b in (*sides, *zip(mine.reference.twins, apart.reference.twins)))


def furthest(step, record) -> float:
    there, here = record.after.parameters, step.reference.record.after.parameters
    paths = zip(sorted(here), sorted(there), strict=True)
    pairs = [(here[a], there[b] if here[a].shape == there[b].shape else there[b].T) for a, b in paths]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def test_all_sides_of_a_free_run_start_from_the_state_of_the_reference():
    first = free()[0]
    start = first.reference.record.before.parameters["linear.weight"]
    assert np.array_equal(first.follower.before.parameters["dense/kernel"], start.T)
    for twin in first.reference.twins:  # built from another seed
        assert np.abs(twin.before.parameters["linear.weight"] / start - 1).max() <= 2.0**-51


def test_a_free_run_goes_on_from_where_each_side_ended():
    steps = free()
    for before, after in pairwise(steps):
        for path, array in before.follower.after.parameters.items():
            assert np.array_equal(array, after.follower.before.parameters[path])
        for path, array in before.reference.record.after.parameters.items():
            assert np.array_equal(array, after.reference.record.before.parameters[path])


def test_a_free_run_carries_an_error_on_that_re_synced_steps_would_not():
    steps = free(Derailed)
    assert furthest(steps[0], steps[0].follower) == 0
    assert all(furthest(step, step.follower) > 0.1 for step in steps[1:])


def test_the_twins_of_a_free_run_drift_by_rounding_errors_and_apart():
    last = free(steps=8)[-1]
    drifts = [furthest(last, twin) for twin in last.reference.twins]
    assert all(0 < drift < 1e-13 for drift in drifts)
    assert not records_equal(*last.reference.twins)


# Float32 ---------------------------------------------------------------------------------------------------------


def test_a_float32_step_has_the_float64_one_for_its_truth_and_starts_from_its_state():
    pair = linear_pair()
    truth = runner_of(pair, "torch")
    own, other = (
        NumpyRunner(getattr(pair, side), precision="float32", device="cpu", seed=5) for side in ("torch", "keras")
    )
    steps = list(in_float32(truth, own, other, plan_of(pair), batches_of(pair, 0, 3), seed=0))
    assert [step.reference.twins[0].before.updates for step in steps] == [0, 1, 2]  # the twins leave no trace
    alone = runner_of(pair, "torch")
    for number, (step, given) in enumerate(zip(steps, batches_of(pair, 0, 3), strict=True), 1):
        assert records_equal(step.reference.record, alone.step(number, given))
        mine, *twins = step.reference.twins
        start = step.reference.record.before.parameters["linear.weight"].astype(np.float32)
        assert np.array_equal(mine.before.parameters["linear.weight"].astype(np.float32), start)
        assert np.array_equal(step.follower.before.parameters["dense/kernel"].astype(np.float32), start.T)
        assert len(twins) == 2
        for twin in twins:
            assert 0 < np.abs(twin.before.parameters["linear.weight"] / start - 1).max() <= 2.0**-22


def splitting(monkeypatch) -> list[tuple]:
    """Lets the fake side tell its only use apart; filled with (side, step, weight, batch) of each time."""
    asked = []

    def uses(self, number, batch):
        asked.append((self.side, number, self.read().parameters[self._weight], batch.inputs))
        return {self._weight: {f"{self.side} (call {number})": asked[-1][2]}}

    monkeypatch.setattr(NumpyRunner, "uses", uses)
    return asked


def test_uses_are_told_apart_in_the_first_step_from_where_it_began(monkeypatch):
    asked = splitting(monkeypatch)
    _, steps = steps_of(linear_pair(), steps=2)
    assert [(side, number) for side, number, *_ in asked] == [("torch", 1)] * 3 + [("keras", 1)]
    first, second = steps
    for record, weight in ((first.reference.record, "linear.weight"), (first.follower, "dense/kernel")):
        ((use, gradient),) = record.uses[weight].items()
        assert use.endswith("(call 1)")
        assert np.array_equal(gradient, record.before.parameters[weight])
    for twin in first.reference.twins:
        assert np.array_equal(twin.uses["linear.weight"]["torch (call 1)"], twin.before.parameters["linear.weight"])
    assert second.reference.record.uses == second.follower.uses == {}


def test_a_step_that_does_not_repeat_itself_is_not_made_again_to_tell_uses_apart(monkeypatch):
    asked = splitting(monkeypatch)
    calls = []

    def hidden(record):
        calls.append(record.step)
        return replace(record, losses={"total": np.asarray(float(len(calls)))})

    steps_of(linear_pair(torch={"fault": hidden}))
    assert [side for side, *_ in asked] == ["keras"]


def test_telling_uses_apart_leaves_both_sides_where_the_step_left_them(monkeypatch):
    _, plain = steps_of(linear_pair(), steps=3)
    splitting(monkeypatch)
    _, split = steps_of(linear_pair(), steps=3)
    for one, other in zip(plain, split, strict=True):
        assert records_equal(replace(other.reference.record, uses={}), one.reference.record)
        assert records_equal(replace(other.follower, uses={}), one.follower)
