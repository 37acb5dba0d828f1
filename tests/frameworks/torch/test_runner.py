"""The PyTorch runner: inventory by memory, state that goes in and comes out, a step that is the user's."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from ports import batches, mlp, torch_loss, torch_mlp
from torch import nn

import xcheck
from xcheck.errors import PairError
from xcheck.frameworks.torch.runner import TorchRunner
from xcheck.frameworks.torch.variables import inventory


def runner(**parts: Any) -> TorchRunner:
    return TorchRunner(mlp(torch=parts).torch, precision="float64", device="cpu", seed=0)


def groups(model: nn.Module) -> set[frozenset[str]]:
    return {frozenset(group) for group in inventory(model).tie_groups() if len(group) > 1}


def test_ties_by_one_parameter_under_two_paths() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    assert groups(model) == set()
    model["head"].weight = model["embed"].weight
    assert groups(model) == {frozenset({"embed.weight", "head.weight"})}
    assert len(inventory(model).parameters()) == 1


def test_a_transposed_view_of_the_same_memory_is_a_tie() -> None:
    model = nn.ModuleDict({"down": nn.Linear(4, 3), "up": nn.Linear(3, 4)})
    model["up"].weight = nn.Parameter(model["down"].weight.data.t())
    assert groups(model) == {frozenset({"down.weight", "up.weight"})}
    assert len(inventory(model).parameters()) == 4  # two objects on one storage, beside two biases


def test_equal_values_are_no_tie() -> None:
    model = nn.ModuleDict({"a": nn.LayerNorm(4), "b": nn.LayerNorm(4)})
    assert groups(model) == set()


def test_neighbours_in_one_buffer_are_no_tie_but_an_overlap_is() -> None:
    flat = torch.zeros(12, dtype=torch.float64)
    model = nn.Module()
    model.a, model.b = nn.Parameter(flat[:6]), nn.Parameter(flat[6:])
    assert groups(model) == set()
    model.c = nn.Parameter(flat[4:8])
    assert {"a", "c"} <= set().union(*groups(model))


def test_a_module_that_is_registered_twice_is_one() -> None:
    shared = nn.Linear(3, 3)
    model = nn.ModuleList([shared, nn.ReLU(), shared])
    assert groups(model) == {frozenset({"0.weight", "2.weight"}), frozenset({"0.bias", "2.bias"})}


def test_a_cast_that_would_separate_views_is_refused() -> None:
    def build() -> nn.Module:
        model = nn.ModuleDict({"down": nn.Linear(4, 3), "up": nn.Linear(3, 4)})
        model["up"].weight = nn.Parameter(model["down"].weight.data.t())
        return model

    with pytest.raises(PairError, match="cannot be converted to"):
        TorchRunner(xcheck.TorchSide(build()), precision="float64", device="cpu", seed=0)
    kept = TorchRunner(xcheck.TorchSide(build), precision="float64", device="cpu", seed=0)
    assert ("down.weight", "up.weight") in kept.inventory().tie_groups()


def test_a_model_already_built_is_left_as_it_was() -> None:
    model = torch_mlp().float()
    before = [p.clone() for p in model.parameters()]
    side = runner(build=model)
    side.step(1, next(batches(0)))
    assert all(p.dtype == torch.float32 and torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert {v.dtype for v in side.read().parameters.values()} == {np.dtype("float64")}


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5),
        lambda p: torch.optim.Adagrad(p),
        lambda p: torch.optim.Adadelta(p),
        lambda p: torch.optim.Adamax(p),
        lambda p: torch.optim.NAdam(p),
    ],
)
def test_state_written_back_gives_the_same_step_again(optimizer: Any) -> None:
    side, (first, second) = runner(optimizer=optimizer), islice(batches(0), 2)
    side.step(1, first)
    snapshot, state = side.snapshot(), side.read()
    wanted = side.step(2, second)
    side.restore(snapshot)
    side.write(state)
    again = side.step(2, second)
    assert not side.unmapped_slots()
    # Momentum passes through canonical units, times its learning rate and back: one rounding each way.
    for (key, value), (other, got) in zip(wanted.items(), again.items(), strict=True):
        assert key == other
        np.testing.assert_allclose(got, value, rtol=1e-14, atol=1e-17, err_msg=str(key))


def test_slots_in_another_state_change_the_step() -> None:
    side, (first, second) = runner(optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)), islice(batches(0), 2)
    side.step(1, first)
    snapshot, state = side.snapshot(), side.read()
    wanted = side.step(2, second).after.parameters["0.weight"]
    side.restore(snapshot)
    doubled = {path: {role: 2 * value for role, value in roles.items()} for path, roles in state.slots.items()}
    side.write(type(state)(slots=doubled, updates=state.updates))
    assert not np.array_equal(side.step(2, second).after.parameters["0.weight"], wanted)


def test_an_unknown_slot_is_named() -> None:
    class Odd(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["secret"] = torch.zeros_like(p)
            return super().step(closure)

    side = runner(optimizer=lambda p: Odd(p, lr=0.1))
    side.step(1, next(batches(0)))
    assert side.unmapped_slots() == ["Odd.state[...]['secret']"]


def test_gradients_are_those_before_clipping() -> None:
    def step(model: nn.Module, optimizer: Any, batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 1e-3)
        optimizer.step()
        return loss

    plain, clipped = runner(), runner(step=step)
    batch = next(batches(0))
    one, two = plain.step(1, batch), clipped.step(1, batch)
    for path, gradient in one.gradients.items():
        assert gradient is not None
        assert np.array_equal(gradient, two.gradients[path])  # type: ignore[arg-type]
    assert not np.array_equal(one.updates()["0.weight"], two.updates()["0.weight"])
    assert one.losses["total"] == two.losses["total"]
    assert np.array_equal(one.outputs["output"], two.outputs["output"])


def test_named_losses_are_summed_and_kept() -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        return {"class": torch_loss(outputs, targets), "size": outputs.square().mean()}

    record = runner(loss=loss, penalty=lambda m: {"l2": m[0].weight.square().sum()}).step(1, next(batches(0)))
    assert set(record.losses) == {"data", "data/class", "data/size", "penalty", "penalty/l2", "total"}
    assert record.losses["total"] == pytest.approx(record.losses["data"] + record.losses["penalty"], rel=1e-15)


def test_after_step_sees_the_updated_model() -> None:
    def project(model: nn.Module) -> None:
        with torch.no_grad():
            model[0].weight.clamp_(-0.1, 0.1)

    after = runner(after_step=project).step(1, next(batches(0))).after.parameters["0.weight"]
    assert np.abs(after).max() <= 0.1


def test_buffers_and_inference_mode() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    record = runner(build=build).step(1, next(batches(0)))
    assert not np.array_equal(record.before.buffers["1.running_mean"], record.after.buffers["1.running_mean"])
    assert not np.allclose(record.inference["output"], record.outputs["output"])


def test_default_dtype_is_restored() -> None:
    runner().step(1, next(batches(0)))
    assert torch.get_default_dtype() == torch.float32


def test_a_missing_gradient_is_none_and_sparse_ones_become_dense() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.unused = nn.Embedding(7, 3, sparse=True), nn.Parameter(torch.zeros(2))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.table(tokens).sum(dim=1)

    side = runner(build=Bag, loss=lambda o, _: o.sum())
    record = side.step(1, xcheck.Batch(np.array([[1, 2], [2, 3]])))
    assert record.gradients["unused"] is None
    assert record.gradients["table.weight"] is not None
    assert record.gradients["table.weight"][:, 0].tolist() == [0, 1, 2, 1, 0, 0, 0]


def test_what_prepare_permutes_is_laid_out_anew() -> None:
    """PyTorch's group norm crashes in its backward pass on an input with its channels last in memory."""
    side = runner(
        build=lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Flatten()),
        prepare=lambda batch: (np.moveaxis(batch.inputs, -1, 1), batch.targets),
        loss=lambda outputs, targets: outputs.sum(),
    )
    record = side.step(1, xcheck.Batch(np.random.default_rng(0).standard_normal((2, 3, 5, 4)), np.zeros(2)))
    assert record.gradients["0.weight"] is not None
