"""Optimizers that a user wrote: where a slot starts, and a factor on each step; named on either side, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from confirmed_causes import confirmed
from ports import keras_sgd, mlp, torch_sgd

LR = 0.1


def own(name: str, rule: Callable[[Any, Any, float], None], **numbers: Any) -> Any:
    """An optimizer of that name, with `rule(state, parameter, rate)` for each parameter."""

    def step(self: Any, closure: Any = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    rule(self.state[parameter], parameter, group["lr"])

    def start(self: Any, parameters: Any) -> None:
        torch.optim.Optimizer.__init__(self, parameters, {"lr": LR, **numbers})

    return type(name, (torch.optim.Optimizer,), {"__init__": start, "step": step})


def ratio_of_norms(state: Any, p: Any, lr: float) -> None:
    p.sub_(lr * p.grad * p.norm() / p.grad.norm())


def size_of_the_weight(state: Any, p: Any, lr: float) -> None:
    p.sub_(lr * p.grad * p.square().mean().sqrt())


def sign(state: Any, p: Any, lr: float) -> None:
    p.sub_(lr * p.grad.sign())


def squares_from_one(state: Any, p: Any, lr: float) -> None:
    if not state:
        state["square_avg"] = torch.ones_like(p)
    state["square_avg"].mul_(0.9).addcmul_(p.grad, p.grad, value=0.1)
    p.sub_(lr * p.grad / (state["square_avg"] + 1e-7).sqrt())


def uncorrected(state: Any, p: Any, lr: float) -> None:
    if not state:
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
    state["exp_avg"].mul_(0.9).add_(p.grad, alpha=0.1)
    state["exp_avg_sq"].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
    p.sub_(lr * state["exp_avg"] / (state["exp_avg_sq"].sqrt() + 1e-7))


class Normed(keras.optimizers.SGD):
    """Divides each gradient by its norm."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        norm: Any = keras.ops.norm(gradient)
        super().update_step(gradient / norm, variable, learning_rate)


class Trust(keras.optimizers.SGD):
    """Multiplies each gradient by the ratio of the norms."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        ratio: Any = keras.ops.norm(variable) / keras.ops.norm(gradient)  # pyright: ignore
        super().update_step(gradient * ratio, variable, learning_rate)


class FromOne(keras.optimizers.RMSprop):
    """Its squares start at one."""

    def build(self, var_list: Any) -> None:
        super().build(var_list)
        slots: Any = self._velocities
        for slot in slots:
            slot.assign(keras.ops.ones_like(slot))


def found_in(torch_optimizer: Any, keras_optimizer: Any) -> dict[str, Any]:
    return confirmed(mlp(torch={"optimizer": torch_optimizer}, keras={"optimizer": keras_optimizer}))


SCALED: dict[str, tuple[Any, Any, str]] = {
    "ratio of norms in torch": (own("LARS", ratio_of_norms), keras_sgd, "the torch side multiplies"),
    "size of the weight in torch": (own("Own", size_of_the_weight), keras_sgd, "the root mean square of the weight"),
    "ratio of norms in keras": (torch_sgd, lambda: Trust(LR), "the keras side multiplies"),
    "norm of the gradient in keras": (torch_sgd, lambda: Normed(LR), "1 / the norm of the gradient"),
}


@pytest.mark.parametrize("name", SCALED)
def test_a_factor_on_each_step(name: str) -> None:
    in_torch, in_keras, words = SCALED[name]
    found = found_in(in_torch, in_keras)
    assert list(found) == ["scaled_step"]
    assert words in found["scaled_step"].summary


def test_another_formula_is_no_factor() -> None:
    assert found_in(own("Sign", sign), keras_sgd) == {}


def test_a_rate_for_all_is_no_factor_of_each() -> None:
    assert list(found_in(lambda p: torch_sgd(p, lr=0.05), keras_sgd)) == ["optimizer_setting"]


def test_what_a_slot_starts_at_in_torch() -> None:
    found = found_in(own("RMSpropOnes", squares_from_one, alpha=0.9, eps=1e-7), lambda: keras.optimizers.RMSprop(LR))
    assert list(found) == ["slot_start"]
    assert "is 1 in torch and 0 in keras" in found["slot_start"].summary


def test_what_a_slot_starts_at_in_keras() -> None:
    found = found_in(lambda p: torch.optim.RMSprop(p, lr=LR, alpha=0.9, eps=1e-7), lambda: FromOne(LR))
    assert set(found) == {"optimizer_formula", "slot_start"}
    assert "is 0 in torch and 1 in keras" in found["slot_start"].summary


def test_a_start_that_both_have_is_no_cause() -> None:
    found = found_in(own("RMSprop", squares_from_one, alpha=0.9, eps=1e-7), lambda: FromOne(LR, rho=0.95))
    assert list(found) == ["optimizer_setting"]


def test_a_correction_that_one_side_leaves_out() -> None:
    found = found_in(own("Adam", uncorrected, betas=(0.9, 0.999), eps=1e-7), lambda: keras.optimizers.Adam(LR))
    assert any("differ in bias_correction: 0.0 in torch" in cause.summary for cause in found.values())
