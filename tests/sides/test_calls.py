"""The trace of a forward pass: every call, its arrays, and what comes after a swapped one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from ports import dilated_conv, mlp

import xcheck
from xcheck.check import begin
from xcheck.choose import Sides, silent
from xcheck.lockstep import batches_of


@pytest.fixture(params=["torch", "keras"])
def side(request):
    return request.param


@pytest.fixture
def opened(side):
    pair = mlp()
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open(side) as runner:
        yield runner, next(batches_of(pair, 0, 1))


def test_inner_calls_end_before_the_one_they_are_made_in(opened):
    runner, batch = opened
    calls = runner.calls(batch)
    whole = calls[-1]
    assert (whole.path, whole.parent) == ("", None)
    assert {c.index for c in calls} == set(range(len(calls)))
    at = {c.index: i for i, c in enumerate(calls)}
    assert all(at[c.parent] > at[c.index] for c in calls[:-1])
    held = [path for c in calls for path in c.parameters]
    assert sorted(held) == sorted(e.path for e in runner.inventory().parameters())


def test_what_went_in_and_out_is_what_the_model_computed(opened):
    runner, batch = opened
    calls = runner.calls(batch)
    record = runner.step(1, batch)
    np.testing.assert_array_equal(next(iter(calls[-1].outputs.values())), next(iter(record.inference.values())))


def test_watching_leaves_the_state_alone(opened):
    runner, batch = opened
    before = runner.read()
    runner.calls(batch, training=True, gradients=True)
    after = runner.read()
    for path, value in before.values().items():
        np.testing.assert_array_equal(value, after.values()[path])


def test_what_comes_after_a_swapped_call_sees_other_values(opened):
    runner, batch = opened
    first = next(c for c in runner.calls(batch) if c.parameters)
    zeros = {name: np.zeros_like(a) for name, a in first.outputs.items()}
    again = runner.calls(batch, swap=lambda call: zeros if call.name == first.name else None)
    second = [c for c in again if c.parameters][1]
    assert not any(np.tanh(a).any() and np.maximum(a, 0).any() for a in second.inputs.values())


def test_the_gradient_of_the_outputs_is_that_of_the_loss(opened):
    """The gradient of a bias is the sum of the gradient of what its layer returned."""
    runner, batch = opened
    last = [c for c in runner.calls(batch, training=True, gradients=True) if c.parameters][-1]
    found = runner.step(1, batch).gradients
    bias = next(g for path, g in found.items() if path in last.parameters and g.ndim == 1)
    np.testing.assert_allclose(next(iter(last.gradients.values())).sum(axis=0), bias, rtol=1e-12)


def test_a_layer_that_is_called_several_times_is_several_calls(side):
    pair = dilated_conv()
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open(side) as runner:
        calls = runner.calls(next(batches_of(pair, 0, 1)))
    if side == "keras":
        assert [c.number for c in calls if c.path == "shared_conv"] == [1, 2, 3]
        assert next(c for c in calls if c.number == 2).name == "shared_conv (call 2)"
    else:
        tied = [c for c in calls if "branches.0.weight" in c.parameters]
        assert [c.path for c in tied] == ["branches.0", "branches.1", "branches.2"]


def test_a_recurrent_layer_shows_its_cells_and_a_dict_its_keys():
    def build_torch():
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.cell = torch.nn.GRUCell(3, 4)

            def forward(self, x):
                state = None
                for t in range(x.shape[1]):
                    state = self.cell(x[:, t], state)
                return {"last": state}

        return Model()

    def build_keras():
        x = keras.Input((None, 3))
        return keras.Model(x, {"last": keras.layers.GRU(4, name="gru")(x)})

    rng = np.random.default_rng(0)
    pair = xcheck.Pair(
        name="gru",
        torch=xcheck.TorchSide(build_torch),
        keras=xcheck.KerasSide(build_keras),
        batches=lambda seed: [xcheck.Batch(rng.standard_normal((2, 5, 3)))],
        weight_map={},
    )
    sides = Sides(begin(pair, 0, 1, None), "cpu", silent)
    batch = next(batches_of(pair, 0, 1))
    with sides.open("torch") as runner:
        calls = runner.calls(batch)
        assert [c.number for c in calls if c.path == "cell"] == [1, 2, 3, 4, 5]
        assert set(calls[-1].outputs) == {"last"}
    with sides.open("keras") as runner:
        calls = runner.calls(batch)
        assert calls[-1].outputs["last"].shape == (2, 4)
        assert any(c.kind == "GRUCell" for c in calls)
