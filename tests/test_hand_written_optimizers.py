"""Optimizers that users write: their slots have names, units and forms of their own, and are judged by what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch

import xcheck

ops = keras.ops
LR = 0.02


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 4)), rng.standard_normal((8, 2)))


def torch_net() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))


def keras_net() -> Any:
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((4,)), dense(3, activation="tanh", name="a"), dense(2, name="b")])


Rule = Callable[[torch.Tensor, dict[str, torch.Tensor], torch.Tensor, int], torch.Tensor]
"""(parameter, its state, gradient, number of the update from 1) -> what is subtracted."""


def by(rule: Rule) -> Callable[[Any], torch.optim.Optimizer]:
    class Own(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, {"lr": LR})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    state["step"] = state.get("step", 0) + 1
                    p.sub_(rule(p, state, p.grad, state["step"]))

    return Own


def kept(state: dict[str, Any], name: str, like: torch.Tensor) -> torch.Tensor:
    return state.setdefault(name, torch.zeros_like(like))


def rate_inside(name: str, momentum: float = 0.9) -> Rule:
    """Momentum as Keras keeps it but for its sign, under PyTorch's name or one of its own."""
    return lambda p, state, g, t: kept(state, name, p).mul_(momentum).add_(LR * g)


def rate_outside(name: str) -> Rule:
    return lambda p, state, g, t: LR * kept(state, name, p).mul_(0.9).add_(g)


def adam(first: str, second: str, beta: float = 0.9) -> Rule:
    """Keras's Adam; its first slot is a sum, not a mean."""

    def rule(p: Any, state: Any, g: Any, t: int) -> Any:
        m = kept(state, first, p).mul_(beta).add_(g)
        v = kept(state, second, p).mul_(0.999).add_(0.001 * g * g)
        return LR * (1 - 0.999**t) ** 0.5 / (1 - beta**t) * (1 - beta) * m / (v.sqrt() + 1e-3)

    return rule


def lion(name: str, beta: float = 0.99) -> Rule:
    def rule(p: Any, state: Any, g: Any, t: int) -> Any:
        m = kept(state, name, p)
        way = (0.9 * m + 0.1 * g).sign()
        m.mul_(beta).add_((1 - beta) * g)
        return LR * way

    return rule


def sgd(**options: Any) -> Callable[[], Any]:
    return lambda: keras.optimizers.SGD(LR, **options)


def keras_adam() -> Any:
    return keras.optimizers.Adam(LR, epsilon=1e-3)


def keras_lion() -> Any:
    return keras.optimizers.Lion(LR, 0.9, 0.99)


def run(torch_optimizer: Any, keras_optimizer: Any, steps: int = 3, **options: Any) -> xcheck.Result:
    pair = xcheck.Pair(
        "own",
        xcheck.TorchSide(torch_net, loss=lambda o, y: ((o - y) ** 2).mean(), optimizer=torch_optimizer),
        xcheck.KerasSide(keras_net, loss="mean_squared_error", optimizer=keras_optimizer),
        batches,
        **options,
    )
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0)


SAME = {
    "the rate inside, by PyTorch's name": (rate_inside("momentum_buffer"), sgd(momentum=0.9)),
    "the rate inside, by its own name": (rate_inside("mine"), sgd(momentum=0.9)),
    "the rate outside, by its own name": (rate_outside("velocity"), sgd(momentum=0.9)),
    "the rate outside, by PyTorch's name": (rate_outside("momentum_buffer"), sgd(momentum=0.9)),
    "Adam": (adam("exp_avg", "exp_avg_sq"), keras_adam),
    "Adam by its own names": (adam("m", "exp_avg_sq"), keras_adam),
    "Lion": (lion("exp_avg"), keras_lion),
    "Lion by its own name": (lion("ema"), keras_lion),
}


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("case", SAME)
def test_the_same_rule_is_the_same_computation_whatever_its_slots_are_called(case: str, reference: str) -> None:
    rule, other = SAME[case]
    result = run(by(rule), other, reference=reference)
    assert result.verdict == "EQUIVALENT", result.first_divergence
    assert not result.causes


DIFFERENT = {
    "momentum inside the rate": (rate_inside("momentum_buffer", 0.8), sgd(momentum=0.9)),
    "momentum by its own name": (rate_inside("mine", 0.8), sgd(momentum=0.9)),
    "no momentum on the other side": (rate_inside("mine", 0.1), sgd()),
    "Adam's beta": (adam("exp_avg", "exp_avg_sq", 0.8), keras_adam),
    "Lion's beta": (lion("ema", 0.2), keras_lion),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_slots_do_otherwise_is_found_in_the_updates_after_the_first(case: str) -> None:
    rule, other = DIFFERENT[case]
    result = run(by(rule), other, steps=5)
    assert result.verdict == "DIFFERENT"
    first = result.first_divergence
    assert first is not None
    assert first.phase == "update"
    assert first.step is not None
    assert first.step > 1
    assert first.name in ("0.weight", "0.bias", "2.weight", "2.bias")
    assert not any(cause.confirmed for cause in result.causes)


def test_a_run_of_one_step_says_that_it_decides_nothing_about_such_slots() -> None:
    result = run(by(rate_inside("mine")), sgd(momentum=0.9), steps=1)
    assert result.verdict == "INCONCLUSIVE"
    assert all("--steps 2" in c.detail for c in result.checks if c.verdict == "INCONCLUSIVE")


class OwnMomentum(keras.optimizers.Optimizer):
    """Momentum after PyTorch, written for Keras: the rate is outside."""

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__(learning_rate=LR, name="own")
        self.factor = momentum

    def build(self, variables: Any) -> None:
        if not self.built:
            super().build(variables)
            self.momentums = [self.add_variable_from_reference(v, "buffer") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        buffer = self.momentums[self._get_variable_index(variable)]
        buffer.assign(buffer * ops.cast(self.factor, variable.dtype) + gradient)
        variable.assign(variable - ops.cast(learning_rate, variable.dtype) * buffer)


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("torch_optimizer", [lambda p: torch.optim.SGD(p, LR, 0.9), by(rate_inside("mine"))])
def test_one_written_for_keras_is_judged_alike(torch_optimizer: Any, reference: str) -> None:
    assert run(torch_optimizer, OwnMomentum, reference=reference).verdict == "EQUIVALENT"
    result = run(torch_optimizer, lambda: OwnMomentum(0.8), reference=reference)
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 2)


def test_between_the_frameworks_own_optimizers_a_slot_that_one_side_lacks_is_different_at_once() -> None:
    result = run(lambda p: torch.optim.SGD(p, LR, 0.9), sgd(), steps=1)
    assert result.verdict == "DIFFERENT"
