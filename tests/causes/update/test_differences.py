"""Clipping, decay, schedules and constraints that differ: each is named and proven where it is all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from confirmed_causes import confirmed
from ports import keras_mlp, keras_sgd, mlp
from setups import clip_by_global_norm, clip_by_norm, clip_by_value, step_with

import xcheck
from xcheck.causes.update.clipping import Clip
from xcheck.causes.update.constraint import Projection, possible_projections
from xcheck.optim.torch.optimizers import KerasAdam, KerasAdamW, KerasSGD


def clip_by_pytorch(model: Any) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)


CLIPPED: dict[str, tuple[Callable[[Any], None], dict[str, float], str]] = {
    "together against each": (clip_by_global_norm, {"clipnorm": 0.1}, "clipping"),
    "each against together": (clip_by_norm, {"global_clipnorm": 0.1}, "clipping"),
    "value against nothing": (clip_by_value, {}, "clipping"),
    "nothing against together": (lambda model: None, {"global_clipnorm": 0.1}, "clipping"),
    "another limit": (clip_by_global_norm, {"global_clipnorm": 0.25}, "clipping"),
    "what pytorch adds": (clip_by_pytorch, {"global_clipnorm": 0.1}, "clipping_formula"),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_clipping(name: str) -> None:
    between, options, expected = CLIPPED[name]
    found = confirmed(mlp(torch={"step": step_with(between)}, keras={"optimizer": lambda: keras_sgd(**options)}))
    assert list(found) == [expected]
    evidence = found[expected].evidence
    assert evidence["after"] < 1e-9 < evidence["before"]


def test_clipping_is_not_named_where_the_gradient_is_bent_besides() -> None:
    def bent(model: Any) -> None:
        clip_by_global_norm(model)
        for p in model.parameters():
            p.grad.sin_()

    assert confirmed(mlp(torch={"step": step_with(bent)}, keras={"optimizer": lambda: keras_sgd(clipnorm=0.1)})) == {}


# Decay -----------------------------------------------------------------------------------------------------------


def test_a_decay_inside_of_the_gradient() -> None:
    found = confirmed(
        mlp(
            torch={"optimizer": lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7, weight_decay=0.1)},
            keras={"optimizer": lambda: keras.optimizers.Adam(1e-3, weight_decay=0.1)},
        )
    )
    assert list(found) == ["optimizer_formula", "decay_in_the_gradient"]


def test_another_rate_of_decay() -> None:
    found = confirmed(
        mlp(
            torch={"optimizer": lambda p: KerasAdamW(p, 1e-3, weight_decay=0.01)},
            keras={"optimizer": lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.004)},
        )
    )
    assert list(found) == ["weight_decay"]
    assert "0.01 in torch and by 0.004 in keras" in found["weight_decay"].summary


def test_a_decay_that_spares_some() -> None:
    def spared(parameters: Any) -> Any:
        every = list(parameters)
        groups = [{"params": every[:1]}, {"params": every[1:], "weight_decay": None}]
        return KerasAdam(groups, 1e-3, weight_decay=0.1)

    pair = mlp(torch={"optimizer": spared}, keras={"optimizer": lambda: keras.optimizers.Adam(1e-3, weight_decay=0.1)})
    found = confirmed(pair)
    assert list(found) == ["decay_exclusion"]
    assert found["decay_exclusion"].torch == "0.bias, 2.weight, 2.bias"


# What is tied ----------------------------------------------------------------------------------------------------


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


class OneKernel(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = self.add_weight(shape=(4, 4), name="kernel")
        self.first, self.second = (self.add_weight(shape=(4,), name=name) for name in ("first", "second"))

    def call(self, x: Any) -> Any:
        once = keras.ops.tanh(keras.ops.matmul(x, self.kernel) + self.first)
        return keras.ops.matmul(once, self.kernel) + self.second


def tied(step: Callable[..., Any], optimizer: Callable[[], Any]) -> xcheck.Pair:
    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((6, 4)), rng.standard_normal((6, 4)))

    return xcheck.Pair(
        name="tied",
        torch=xcheck.TorchSide(Tied, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), step=step),
        keras=xcheck.KerasSide(OneKernel, loss="mean_squared_error", optimizer=optimizer),
        batches=batches,
        weight_map={
            "first.weight": ("one_kernel/kernel", "transpose"),
            "first.bias": "one_kernel/first",
            "second.bias": "one_kernel/second",
        },
        ties=[["first.weight", "second.weight"]],
    )


def every_name(model: Any) -> list[Any]:
    return [p for _, p in model.named_parameters(remove_duplicate=False)]


def test_clipping_that_counts_a_tied_weight_twice() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch.inputs), batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(every_name(model), 0.1)
        optimizer.step()
        return loss

    found = confirmed(tied(step, lambda: keras_sgd(global_clipnorm=0.1)))
    assert list(found) == ["clipping_counts_a_tie_twice"]
    assert "1e-06 added to the norm, in which a tied weight" in found["clipping_counts_a_tie_twice"].summary


def test_clipping_by_a_norm_that_counts_a_tied_weight_twice() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch.inputs), batch.targets)
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in every_name(model)]).norm()
        for p in model.parameters():
            p.grad *= 0.1 / norm
        optimizer.step()
        return loss

    found = confirmed(tied(step, lambda: keras_sgd(global_clipnorm=0.1)))
    assert list(found) == ["clipping_counts_a_tie_twice"]


def test_decay_that_counts_a_tied_weight_twice() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch.inputs), batch.targets)
        loss.backward()
        before = [p.detach().clone() for p in every_name(model)]
        optimizer.step()
        with torch.no_grad():
            for p, was in zip(every_name(model), before, strict=True):
                p -= 0.1 * 0.01 * was
        return loss

    found = confirmed(tied(step, lambda: keras_sgd(weight_decay=0.01)))
    assert list(found) == ["decay_counts_a_tie_twice"]
    assert found["decay_counts_a_tie_twice"].torch == "first.weight"


# The learning rate -----------------------------------------------------------------------------------------------


def test_a_schedule_that_is_a_step_late() -> None:
    class Late(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.1 * 0.5 ** keras.ops.maximum(keras.ops.cast(step, "float64") - 1, 0)

        def get_config(self) -> dict[str, Any]:
            return {}

    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, lambda taken: 0.1 * 0.5**taken)},
        keras={"optimizer": lambda: keras.optimizers.SGD(Late())},
    )
    found = confirmed(pair, steps=2)
    assert list(found) == ["schedule"]
    assert "the keras side is 1 step late" in found["schedule"].summary


def test_a_scheduler_of_pytorch_that_has_moved_on() -> None:
    def build(parameters: Any) -> Any:
        optimizer: Any = torch.optim.SGD(parameters, lr=0.1)
        optimizer.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return optimizer

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        loss.backward()
        optimizer.step()
        optimizer.scheduler.step()
        return loss

    found = confirmed(mlp(torch={"optimizer": build, "step": step}), steps=2)
    assert list(found) == ["optimizer_setting"]
    assert "0.05 in torch, 0.1 in keras" in found["optimizer_setting"].summary


@pytest.mark.parametrize("bent", [False, True])
def test_a_momentum_that_keeps_the_old_learning_rate(bent: bool) -> None:
    def build(parameters: Any) -> Any:
        optimizer: Any = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        optimizer.scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], 0.1)
        return optimizer

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        loss.backward()
        for p in model.parameters() if bent and optimizer.state else ():
            p.grad += 1e-3 * p.grad.sin()
        optimizer.step()
        optimizer.scheduler.step()
        return loss

    rates = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.01])
    other = {"optimizer": lambda: keras.optimizers.SGD(rates, momentum=0.9)}
    found = confirmed(mlp(torch={"optimizer": build, "step": step}, keras=other), steps=2)
    assert list(found) == ([] if bent else ["carried_momentum"])
    if not bent:
        assert "scaled by 0.1" in found["carried_momentum"].summary
        assert "TorchSGD" in found["carried_momentum"].fix


def test_a_decay_in_the_gradient_of_one_side_alone() -> None:
    found = confirmed(
        mlp(
            torch={"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)},
            keras={"optimizer": lambda: keras_sgd(momentum=0.9)},
        )
    )
    assert list(found) == ["weight_decay"]
    assert "TorchSGD(learning_rate=0.1, momentum=0.9, weight_decay=0.01)" in found["weight_decay"].fix


def test_a_flag_of_the_formula() -> None:
    pair = mlp(
        torch={"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)},
        keras={"optimizer": lambda: keras_sgd(momentum=0.9)},
    )
    found = confirmed(pair)
    assert list(found) == ["optimizer_setting"]
    assert "nesterov" in found["optimizer_setting"].summary


# Constraints -----------------------------------------------------------------------------------------------------


def unit_norms(dim: int) -> Callable[[Any], None]:
    def after_step(model: Any) -> None:
        with torch.no_grad():
            weight = model[0].weight
            weight /= 1e-7 + weight.norm(dim=dim, keepdim=True)

    return after_step


@pytest.mark.parametrize(
    ("after_step", "constraint", "expected"),
    [
        (unit_norms(0), keras.constraints.UnitNorm(), "constraint_axis"),
        (None, keras.constraints.UnitNorm(), "constraint_missing"),
        (unit_norms(1), None, "constraint_missing"),
        (unit_norms(1), keras.constraints.MaxNorm(0.25), "constraint"),
    ],
)
def test_constraints(after_step: Any, constraint: Any, expected: str) -> None:
    pair = mlp(torch={"after_step": after_step}, keras={"build": lambda: keras_mlp(kernel_constraint=constraint)})
    found = confirmed(pair)
    assert list(found) == [expected]
    assert found[expected].torch == "0.weight"


def test_nothing_is_named_where_a_constraint_is_none_that_is_known() -> None:
    def after_step(model: Any) -> None:
        with torch.no_grad():
            model[0].weight.tanh_()

    assert confirmed(mlp(torch={"after_step": after_step})) == {}


def test_each_constraint_is_found_again() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3))
    for wanted in (
        Projection("positive"),
        Projection("unit", (1,), added=1e-7),
        Projection("unit", (0, 1)),
        Projection("largest", (0,), 1.5, 1e-7),
    ):
        after = wanted.of(weight)
        found = next(p for p in possible_projections(weight, after) if np.allclose(p.of(weight), after, 1e-12, 0))
        assert found == wanted


def test_a_clip_has_words() -> None:
    for clip in (Clip(), Clip("value", 0.5), Clip("each", 1.0), Clip("together", 1.0, 1e-6)):
        assert clip.words
        assert clip.formula
