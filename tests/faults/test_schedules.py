"""Learning-rate schedules, right and wrong.

As a function of the step, as a schedule of Keras, as a scheduler of PyTorch: equivalent where they give one rate, and
parted in the update of the step where they first do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from ports import assert_parts_in, keras_sgd, mlp, torch_sgd
from setups import assert_equivalent, run, step_with

from xcheck.optim import KerasSGD, TorchSGD

Schedule = Callable[[int], float]


def warm_up(t: int) -> float:
    return 0.1 * t / 2 if t < 2 else 0.05 * (1 + math.cos(math.pi * min(t - 2, 3) / 3))


def schedules() -> dict[str, tuple[Schedule, Any]]:
    """By name: the rate after `t` updates, and the same as Keras takes it."""
    of = keras.optimizers.schedules
    return {
        "constant": (lambda t: 0.1, lambda: 0.1),
        "steps": (
            lambda t: 0.1 if t <= 1 else 0.03,
            lambda: of.PiecewiseConstantDecay([1], [0.1, 0.03]),
        ),
        "exponential": (lambda t: 0.1 * 0.7 ** (t / 2), lambda: of.ExponentialDecay(0.1, 2, 0.7)),
        "staircase": (lambda t: 0.1 * 0.7 ** (t // 2), lambda: of.ExponentialDecay(0.1, 2, 0.7, staircase=True)),
        "cosine": (lambda t: 0.05 * (1 + math.cos(math.pi * min(t, 3) / 3)), lambda: of.CosineDecay(0.1, 3)),
        "warm-up": (warm_up, lambda: of.CosineDecay(0.0, 3, warmup_target=0.1, warmup_steps=2)),
    }


def scheduled(schedule: Schedule, momentum: float = 0.9) -> Callable[[Any], Any]:
    """PyTorch's SGD with a scheduler of PyTorch's, kept on the optimizer."""

    def optimizer(parameters: Any) -> Any:
        made = torch_sgd(parameters, lr=1.0, momentum=momentum)
        made.scheduler = torch.optim.lr_scheduler.LambdaLR(made, schedule)
        return made

    return optimizer


def scheduled_step(model: Any, optimizer: Any, batch: Any) -> Any:
    loss = step_with(lambda model: None)(model, optimizer, batch)
    optimizer.scheduler.step()
    return loss


@pytest.mark.parametrize("name", list(schedules()))
def test_a_schedule_as_a_function_of_the_step(name: str) -> None:
    schedule, rate = schedules()[name]
    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=schedule, momentum=0.9)},
        keras={"optimizer": lambda: keras_sgd(rate(), momentum=0.9)},
    )
    assert_equivalent(pair, steps=4)


@pytest.mark.parametrize("name", ["steps", "warm-up"])
def test_a_scheduler_of_pytorch(name: str) -> None:
    schedule, rate = schedules()[name]
    pair = mlp(
        torch={"optimizer": scheduled(schedule, momentum=0.0), "step": scheduled_step},
        keras={"optimizer": lambda: keras_sgd(rate())},
    )
    assert_equivalent(pair, steps=4)


@pytest.mark.parametrize(
    ("name", "late", "step"),
    [
        ("steps", 1, 2),
        ("steps", -1, 3),
        ("exponential", 1, 1),
        ("staircase", 1, 2),
        ("cosine", 1, 1),
        ("cosine", -1, 2),
    ],
)
def test_a_schedule_that_is_off_by_one_parts_where_it_first_matters(name: str, late: int, step: int) -> None:
    schedule, rate = schedules()[name]
    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=lambda t: schedule(max(t + late, 0)))},
        keras={"optimizer": lambda: keras_sgd(rate())},
    )
    assert_parts_in(run(pair, steps=step), "update", step)


@pytest.mark.parametrize("name", list(schedules()))
def test_a_schedule_that_is_a_millionth_off(name: str) -> None:
    schedule, rate = schedules()[name]
    pair = mlp(
        torch={"optimizer": lambda p: KerasSGD(p, learning_rate=lambda t: schedule(t) * (1 + 1e-6))},
        keras={"optimizer": lambda: keras_sgd(rate())},
    )
    step = 2 if name == "warm-up" else 1  # whose first rate is zero
    assert_parts_in(run(pair, steps=step), "update", step)


def test_a_scheduler_that_steps_before_the_optimizer() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        def advance(_: Any) -> None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Detected call of")
                optimizer.scheduler.step()

        return step_with(advance)(model, optimizer, batch)

    schedule, rate = schedules()["steps"]
    pair = mlp(
        torch={"optimizer": scheduled(schedule, momentum=0.0), "step": step},
        keras={"optimizer": lambda: keras_sgd(rate())},
    )
    assert_parts_in(run(pair, steps=2), "update", 2)


def test_a_scheduler_kept_outside_of_the_optimizer_is_put_back_with_it() -> None:
    """Each step is made several times, and what its functions keep is as it was before each."""
    kept: list[Any] = []
    schedule, rate = schedules()["warm-up"]

    def optimizer(parameters: Any) -> Any:
        made = torch_sgd(parameters, lr=1.0)
        kept[:] = [torch.optim.lr_scheduler.LambdaLR(made, schedule)]
        return made

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        loss = step_with(lambda model: None)(model, optimizer, batch)
        kept[0].step()
        return loss

    pair = mlp(torch={"optimizer": optimizer, "step": step}, keras={"optimizer": lambda: keras_sgd(rate())})
    result = run(pair, steps=3)
    assert result.verdict == "EQUIVALENT", result.report()


def test_plain_momentum_parts_once_the_rate_changes() -> None:
    """Keras keeps momentum in units of the step, so a new rate does not reach what is carried over."""
    schedule, rate = schedules()["steps"]
    pair = mlp(
        torch={"optimizer": scheduled(schedule), "step": scheduled_step},
        keras={"optimizer": lambda: keras_sgd(rate(), momentum=0.9)},
    )
    assert_parts_in(run(pair, steps=3), "update", 3)


def test_momentum_in_units_of_the_gradient_follows_a_scheduler_of_pytorch() -> None:
    schedule, rate = schedules()["steps"]
    pair = mlp(
        torch={"optimizer": scheduled(schedule), "step": scheduled_step},
        keras={"optimizer": lambda: TorchSGD(rate(), momentum=0.9)},
    )
    assert_equivalent(pair, steps=4)
