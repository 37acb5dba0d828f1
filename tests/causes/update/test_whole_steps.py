"""What is seen in an update without any formula, and what looks like another setting and is none."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import torch
from confirmed_causes import confirmed
from ports import keras_sgd, mlp, torch_sgd
from setups import accumulated, averaged, run

from xcheck.optim.torch.optimizers import KerasSGD


class Shrinking(keras.optimizers.SGD):
    """Takes a share of the weight itself, before or after the step."""

    after = False

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.after:
            self.assign_sub(variable, variable * 0.05)
        super().update_step(gradient, variable, learning_rate)
        if self.after:
            self.assign_sub(variable, variable * 0.05)


class ShrinkingAfter(Shrinking):
    after = True


class FromTheInitialWeights(KerasSGD):
    def step(self, closure: Any = None) -> Any:
        starts = {p: p.detach().clone() for group in self.param_groups for p in group["params"]}
        loss = super().step(closure)
        for p, start in starts.items():
            self.state[p]["average"] = 0.9 * self.state[p].get("average", start) + 0.1 * p.detach()
        return loss


def own_rate(parameters: Any) -> Any:
    first, *others = parameters
    return torch.optim.SGD([{"params": [first], "lr": 0.01}, {"params": others}], lr=0.1)


CASES: dict[str, tuple[Any, Any, int, str, str]] = {
    "averages of the weights": (
        torch_sgd,
        lambda: keras_sgd(use_ema=True, ema_overwrite_frequency=7),
        1,
        "averages_over_weights",
        "over the weights every 7 updates",
    ),
    "batches that are collected": (
        torch_sgd,
        lambda: keras_sgd(gradient_accumulation_steps=2),
        1,
        "accumulated_gradients",
        "of 2 batches",
    ),
    "a rate of its own": (own_rate, keras_sgd, 1, "rate_of_some", "moves 0.weight 10 times"),
    "another optimizer": (
        lambda p: torch.optim.Adam(p, lr=1e-3),
        keras_sgd,
        1,
        "another_optimizer",
        "torch side trains with Adam, the keras side with SGD",
    ),
    "dampening": (
        lambda p: torch_sgd(p, momentum=0.9, dampening=0.1),
        lambda: keras_sgd(momentum=0.9),
        2,
        "optimizer_setting",
        "differ in dampening: 0.1 in torch",
    ),
    "a decay whatever the rate is": (
        lambda p: KerasSGD(p, learning_rate=0.1, weight_decay=0.05),
        lambda: Shrinking(0.1),
        1,
        "decay_not_scaled",
        "whatever the learning rate is",
    ),
    "a decay after the step": (torch_sgd, lambda: ShrinkingAfter(0.1), 1, "decay_after_the_step", "0.95 times"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_done_otherwise(name: str) -> None:
    in_torch, in_keras, steps, expected, words = CASES[name]
    found = confirmed(mlp(torch={"optimizer": in_torch}, keras={"optimizer": in_keras}), steps)
    assert list(found) == [expected]
    assert words in found[expected].summary


def test_another_share_of_the_averages() -> None:
    found = confirmed(averaged(ema_momentum=0.95), steps=2)
    assert list(found) == ["average_momentum"]
    assert "0.9 of their old value in torch and 0.95 in keras" in found["average_momentum"].summary


def test_averages_over_the_weights() -> None:
    assert list(confirmed(averaged(ema_overwrite_frequency=2), steps=2)) == ["averages_over_weights"]


def test_averages_over_the_weights_beside_another_rate_tell_no_start() -> None:
    """Written over the weights, they look as if they started from the updated ones."""

    def keras_optimizer(**options: Any) -> Any:
        return keras_sgd(0.05, use_ema=True, ema_momentum=0.9, **options)

    torch_side = {"optimizer": lambda p: FromTheInitialWeights(p, learning_rate=0.1)}
    assert "average_start" in confirmed(mlp(torch=torch_side, keras={"optimizer": keras_optimizer}))
    overwritten = {"optimizer": lambda: keras_optimizer(ema_overwrite_frequency=1)}
    assert "average_start" not in confirmed(mlp(torch=torch_side, keras=overwritten))


def test_a_sum_over_parts_of_a_batch_is_a_factor_and_no_use_that_counts_twice() -> None:
    causes = run(mlp(torch={"step": accumulated(1.0)})).causes
    assert [(c.id, c.confirmed) for c in causes] == [("loss_factor", True)]


def test_a_gradient_that_is_bent_is_no_rate_of_some() -> None:
    class Bent(keras.optimizers.SGD):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            bent = keras.ops.sin(gradient) if len(variable.shape) > 1 else gradient
            super().update_step(bent, variable, learning_rate)

    assert confirmed(mlp(keras={"optimizer": lambda: Bent(0.1)})) == {}
