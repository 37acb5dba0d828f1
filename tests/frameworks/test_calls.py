"""The trace of a forward pass: every call, its arrays, and what comes after a swapped one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import dilated_conv, mlp

import xcheck
from xcheck.frameworks.sides import Sides, silent
from xcheck.matching.partial_run import Following
from xcheck.pairs.batches import batches_of
from xcheck.phases.begin import begin
from xcheck.records.calls import LOSS, Again, everywhere
from xcheck.records.trace import State


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


def test_a_part_of_a_pass_made_again_is_that_part_of_a_whole_one(opened):
    runner, batch = opened
    kept = Again()
    calls = runner.calls(batch, again=kept)
    last = [c for c in calls if c.parameters][-1]
    runner.write(State({path: runner.read().value(path) + 1 for path in last.parameters}))
    whole = runner.calls(batch)
    part = runner.calls(batch, again=Again(last.index, last.index, kept.past))
    shown = whole[: len(part)]
    assert [(c.name, c.index, c.parent) for c in part] == [(c.name, c.index, c.parent) for c in shown]
    for mine, other in zip(part, shown, strict=True):
        for name, array in other.outputs.items():
            np.testing.assert_array_equal(mine.outputs[name], array)
    if runner.side == "keras":  # which leaves out what comes before and after; PyTorch makes all of it again
        assert part[-1].index == last.index
        assert part[0].outputs["output"] is calls[0].outputs["output"]


def test_no_more_is_run_than_what_other_parameters_change(monkeypatch):
    pair = mlp()
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open("keras") as runner:
        batch, run = next(batches_of(pair, 0, 1)), []
        following = Following(runner)
        calls = following.whole(runner.read(), batch, None)
        one, two = (c for c in calls if c.parameters)
        model: Any = vars(runner)["model"]
        monkeypatch.setattr(model.layers[0], "call", lambda x: run.append(x) or x)
        moved = State({path: runner.read().value(path) + 1 for path in two.parameters})
        assert following.part(moved, batch, None, one.index) == calls, "nothing before the first layer is another"
        made = following.part(moved, batch, None, None)
        assert not run
        assert made is not None
        assert not np.array_equal(made[-1].outputs["output"], calls[-1].outputs["output"])


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


def test_functions_are_listed_where_they_are_asked_for(opened, side):
    runner, batch = opened
    assert not any(c.function for c in runner.calls(batch))
    calls = runner.calls(batch, inside=everywhere)
    found = [(c.kind, c.parameters) for c in calls if c.function]
    hidden = {"torch": ("0.weight", "0.bias"), "keras": ("sequential/hidden/kernel", "sequential/hidden/bias")}[side]
    if side == "torch":
        assert found[:2] == [("linear", hidden), ("tanh", ())]
    else:
        assert found[:3] == [("matmul", hidden[:1]), ("add", hidden[1:]), ("tanh", ())]
    first = next(c for c in calls if c.function)
    assert all(c.function or c.path in ("", "1", "2", first.path, "sequential/head") for c in calls)
    assert first.name == f"{first.path}: {first.kind}"
    assert set(first.inputs) == {"0"}


def test_functions_are_those_of_the_module_that_calls_them(opened, side):
    runner, batch = opened
    hidden = {"torch": "0", "keras": "sequential/hidden"}[side]
    calls = runner.calls(batch, inside=lambda path: path == hidden)
    assert {c.path for c in calls if c.function} == {hidden}


def test_watching_functions_changes_no_bit(opened):
    runner, batch = opened
    plain, watched = runner.calls(batch)[-1], runner.calls(batch, inside=everywhere)[-1]
    for name, array in plain.outputs.items():
        np.testing.assert_array_equal(array, watched.outputs[name])


def test_a_function_can_be_swapped_too(opened):
    runner, batch = opened
    again = runner.calls(
        batch,
        inside=everywhere,
        swap=lambda c: {n: np.zeros_like(a) for n, a in c.outputs.items()} if c.kind == "tanh" and c.function else None,
    )
    assert not any(next(c for c in again if c.path.endswith(("2", "head"))).inputs["0"].ravel())


def test_settings_are_the_plain_values_of_a_module_or_a_function(side):
    def torch_build():
        return torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.GELU("tanh"), torch.nn.LayerNorm(3, eps=1e-3))

    def keras_build():
        gelu = keras.layers.Lambda(lambda x: keras.ops.gelu(x, approximate=True))
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3), gelu, keras.layers.LayerNormalization()])

    pair = mlp(torch={"build": torch_build}, keras={"build": keras_build})
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open(side) as runner:
        calls = runner.calls(next(batches_of(pair, 0, 1)), inside=everywhere)
    norm = next(c for c in calls if "Norm" in c.kind and not c.function)
    assert norm.settings["eps" if side == "torch" else "epsilon"] == 1e-3
    gelu = next(c for c in calls if c.kind == "gelu")
    assert True in gelu.settings.values() or "tanh" in gelu.settings.values()


def test_with_gradients_the_loss_is_one_more_call(opened):
    runner, batch = opened
    calls = runner.calls(batch, training=True, gradients=True, inside=everywhere)
    assert (calls[-1].path, calls[-1].parent) == (LOSS, None)
    np.testing.assert_array_equal(calls[-1].outputs["output"], runner.step(1, batch).losses["total"])
    within = [c for c in calls if c.parent == calls[-1].index]
    assert within
    assert all(c.function and c.path == LOSS for c in within)


def test_operators_and_slices_of_tensors_are_functions(side):
    class Mine(torch.nn.Module):
        def forward(self, x):
            return 2.0 * x[:, 1:3] + 1.0

    def keras_build():
        x = keras.Input((6,))

        class Own(keras.layers.Layer):
            def call(self, x):
                return 2.0 * x[:, 1:3] + 1.0

        return keras.Model(x, Own()(x))

    pair = mlp(torch={"build": Mine}, keras={"build": keras_build}, weight_map={})
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open(side) as runner:
        calls = runner.calls(next(batches_of(pair, 0, 1)), inside=everywhere)
    found = [c for c in calls if c.function]
    assert len(found) == 3
    assert found[0].kind == "getitem"
    assert found[0].settings["1"] == (":", "1:3")
    assert 2.0 in found[1].settings.values()
