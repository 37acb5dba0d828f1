"""The side without a framework keeps the contract that the others are held to."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import batches, linear_pair, runner_of, scaled

from xcheck.frameworks.fake.runner import NumpyRunner
from xcheck.records.trace import State


@pytest.fixture
def batch():
    return next(batches(3))


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_the_gradient_is_the_slope_of_the_loss(side, batch):
    runner = runner_of(linear_pair(), side)
    record = runner.step(1, batch)
    for path, weight in record.before.parameters.items():
        for index in np.ndindex(weight.shape):
            nudged = weight.copy()
            nudged[index] += 1e-6
            probe = runner_of(linear_pair(), side)
            probe.write(State({path: nudged}))
            slope = (probe.step(1, batch).losses["data"] - record.losses["data"]) / 1e-6
            assert slope == pytest.approx(record.gradients[path][index], abs=1e-4)


def test_sgd_with_momentum_follows_its_formula(batch):
    runner = runner_of(linear_pair(torch={"learning_rate": 0.5, "momentum": 0.25}), "torch")
    first, second = runner.step(1, batch), runner.step(2, batch)
    momentum = 0.25 * first.gradients["linear.bias"] + second.gradients["linear.bias"]
    assert second.after.slots["linear.bias"]["momentum"] == pytest.approx(-0.5 * momentum)
    assert second.updates()["linear.bias"] == pytest.approx(-0.5 * momentum)
    assert (second.before.updates, second.after.updates) == (1, 2)


def test_a_step_goes_on_from_where_the_last_one_ended(batch):
    runner = runner_of(linear_pair(), "keras")
    first, second = runner.step(1, batch), runner.step(2, batch)
    for path, array in first.after.parameters.items():
        assert np.array_equal(array, second.before.parameters[path])


def test_restoring_a_snapshot_repeats_the_step_exactly(batch):
    runner = runner_of(linear_pair(), "torch")
    runner.step(1, batch)
    snapshot = runner.snapshot()
    first = runner.step(2, batch)
    runner.step(3, batch)
    runner.restore(snapshot)
    again = runner.step(2, batch)
    mine, theirs = dict(first.items()), dict(again.items())
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[key], theirs[key]) for key in mine)
    assert again.after.updates == 2


def test_what_was_read_does_not_change_with_the_next_step(batch):
    runner = runner_of(linear_pair(), "torch")
    state = runner.read()
    kept = {path: array.copy() for path, array in state.parameters.items()}
    runner.step(1, batch)
    for path, array in kept.items():
        assert np.array_equal(array, state.parameters[path])
    written = {"linear.bias": np.zeros(2)}
    runner.write(State(written))
    runner.step(2, batch)
    assert not written["linear.bias"].any()


def test_writing_sets_what_is_given_and_leaves_the_rest():
    runner = runner_of(linear_pair(), "torch")
    before = runner.read()
    runner.write(State({"linear.bias": np.array([7.0, 8.0])}, slots={"linear.weight": {"momentum": np.ones((2, 3))}}))
    after = runner.read()
    assert after.parameters["linear.bias"].tolist() == [7.0, 8.0]
    assert np.array_equal(after.parameters["linear.weight"], before.parameters["linear.weight"])
    assert after.slots["linear.weight"]["momentum"].tolist() == [[1.0] * 3] * 2


def test_the_sides_differ_in_names_layout_and_first_weights():
    torch, keras = (runner_of(linear_pair(), side) for side in ("torch", "keras"))
    assert {e.path: e.shape for e in torch.inventory().entries} == {"linear.weight": (2, 3), "linear.bias": (2,)}
    assert {e.path: e.shape for e in keras.inventory().entries} == {"dense/kernel": (3, 2), "dense/bias": (2,)}
    assert [(e.kind, e.role) for e in keras.inventory().entries] == [("Dense", "kernel"), ("Dense", "bias")]
    kernel = keras.read().parameters["dense/kernel"]
    assert not np.allclose(torch.read().parameters["linear.weight"], kernel.T)


def test_tied_copies_are_paths_of_one_storage_and_untied_ones_are_parameters():
    tied = runner_of(linear_pair(torch={"copies": 3}), "torch")
    assert tied.inventory().tie_groups()[0] == ("linear.weight", "linear_1.weight", "linear_2.weight")
    assert set(tied.read().parameters) == {"linear.weight", "linear.bias"}
    untied = runner_of(linear_pair(keras={"copies": 2, "tied": False}), "keras")
    assert all(len(group) == 1 for group in untied.inventory().tie_groups())
    values = untied.read().parameters
    assert np.array_equal(values["dense/kernel"], values["dense_1/kernel"])  # equal, and yet two


def test_a_fault_rewrites_the_record_and_not_the_side(batch):
    sound = runner_of(linear_pair(), "torch")
    faulty = runner_of(linear_pair(torch={"fault": scaled("gradients", "linear.bias", by=2.0)}), "torch")
    for number in (1, 2):
        mine, theirs = sound.step(number, batch), faulty.step(number, batch)
        assert np.array_equal(theirs.gradients["linear.bias"], 2 * mine.gradients["linear.bias"])
        assert np.array_equal(theirs.gradients["linear.weight"], mine.gradients["linear.weight"])
        assert np.array_equal(theirs.after.parameters["linear.bias"], mine.after.parameters["linear.bias"])


def test_an_unobserved_step_trains_the_same_and_records_states_and_losses_alone(batch):
    seen, unseen = (runner_of(linear_pair(), "torch") for _ in range(2))
    full, short = seen.step(1, batch), unseen.step(1, batch, observe=False)
    assert (short.inference, short.outputs, short.gradients) == ({}, {}, {})
    assert np.array_equal(short.after.parameters["linear.weight"], full.after.parameters["linear.weight"])
    assert short.losses == full.losses


def test_prepare_turns_the_batch_into_what_the_side_eats(batch):
    wide = replace(batch, inputs=np.concatenate([batch.inputs, batch.inputs], axis=1))
    runner = runner_of(linear_pair(torch={"prepare": lambda b: (b.inputs[:, :3], b.targets)}), "torch")
    plain = runner_of(linear_pair(), "torch")
    assert np.array_equal(runner.step(1, wide).outputs["output"], plain.step(1, batch).outputs["output"])


def test_what_is_written_takes_the_precision_of_the_side(batch):
    runner = NumpyRunner(linear_pair().torch, precision="float32", device="cpu", seed=0)
    momenta = {path: {"momentum": np.full(a.shape, 0.1)} for path, a in runner.read().parameters.items()}
    runner.write(State({path: np.full(a.shape, 0.1) for path, a in runner.read().parameters.items()}, slots=momenta))
    record = runner.step(1, batch)
    floats = {key: array.dtype for key, array in record.items() if key.phase != "losses"}
    assert set(floats.values()) == {np.dtype(np.float32)}, floats
