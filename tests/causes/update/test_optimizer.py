"""The cause of an update that differs: the formula or the setting is named, and proven by recomputing both updates."""

from __future__ import annotations

from typing import Any

import pytest
from ports import mlp

import xcheck


def causes_of(torch_optimizer: Any, keras_optimizer: Any) -> list[xcheck.Cause]:
    pair = mlp(torch={"optimizer": torch_optimizer}, keras={"optimizer": keras_optimizer})
    result = xcheck.check(pair, steps=2, precision=("float64",), free_steps=0)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "update"
    return list(result.causes)


def test_plain_adam_follows_another_formula() -> None:
    import keras
    import torch

    (cause,) = causes_of(lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7), lambda: keras.optimizers.Adam(1e-3))
    assert (cause.id, cause.confirmed) == ("optimizer_formula", True)
    assert "bias correction" in cause.summary
    assert "KerasAdam" in cause.fix
    assert cause.evidence["after"] < 1e-12 < 1e-4 < cause.evidence["before"]


def test_default_epsilons_are_a_setting_besides_the_formula() -> None:
    import keras
    import torch

    found = causes_of(lambda p: torch.optim.Adam(p, lr=1e-3), lambda: keras.optimizers.Adam(1e-3))
    assert [(c.id, c.confirmed) for c in found] == [("optimizer_formula", True), ("optimizer_setting", True)]
    assert "1e-08 in torch, 1e-07 in keras" in found[1].summary


def test_a_setting_of_one_formula_is_the_only_cause() -> None:
    import keras

    from xcheck.optim.torch.optimizers import KerasAdam

    (cause,) = causes_of(
        lambda p: KerasAdam(p, learning_rate=1e-3, beta_1=0.9 + 1e-7), lambda: keras.optimizers.Adam(1e-3)
    )
    assert (cause.id, cause.confirmed, "beta_1" in cause.summary) == ("optimizer_setting", True, True)


@pytest.mark.parametrize("name", ["RMSprop", "Adagrad"])
def test_epsilon_inside_the_root(name: str) -> None:
    import keras
    import torch

    options = {"RMSprop": {"alpha": 0.9}, "Adagrad": {"initial_accumulator_value": 0.1}}[name]
    (cause,) = causes_of(
        lambda p: getattr(torch.optim, name)(p, lr=1e-3, eps=1e-7, **options),
        lambda: getattr(keras.optimizers, name)(1e-3),
    )
    assert (cause.id, cause.confirmed) == ("optimizer_formula", True)
    assert "inside the root" in cause.summary


def test_what_the_formulas_do_not_explain_is_not_called_proven() -> None:
    import keras
    import torch

    class Bent(keras.optimizers.Adam):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(keras.ops.sin(gradient), variable, learning_rate)

    found = causes_of(lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7), lambda: Bent(1e-3))
    assert [(c.id, c.confirmed) for c in found] == [("optimizer_formula", False)]


def test_a_learning_rate_of_sgd() -> None:
    import keras
    import torch

    (cause,) = causes_of(lambda p: torch.optim.SGD(p, lr=0.1), lambda: keras.optimizers.SGD(0.1 * (1 + 1e-6)))
    assert (cause.id, cause.confirmed) == ("optimizer_setting", True)
    assert "learning_rate" in cause.summary


OTHERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], list[str]]] = {
    "Adamax": ("Adamax", {"lr": 1e-3, "eps": 1e-7}, "Adamax", {}, ["optimizer_formula"]),
    "Nadam": ("NAdam", {"lr": 1e-3, "eps": 1e-7}, "Nadam", {}, ["optimizer_setting"]),
    "Adadelta": ("Adadelta", {"lr": 1e-3, "rho": 0.95, "eps": 1e-6}, "Adadelta", {}, ["optimizer_setting"]),
    "AMSGrad": ("Adam", {"lr": 1e-3, "eps": 1e-7, "amsgrad": True}, "Adam", {"amsgrad": True}, ["optimizer_formula"]),
    "centred RMSprop": (
        "RMSprop",
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7, "centered": True, "momentum": 0.9},
        "RMSprop",
        {"centered": True, "momentum": 0.9},
        ["optimizer_formula"],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_optimizers(name: str) -> None:
    import keras
    import torch

    in_torch, options, in_keras, settings, expected = OTHERS[name]
    found = causes_of(
        lambda p: getattr(torch.optim, in_torch)(p, **options),
        lambda: getattr(keras.optimizers, in_keras)(1e-3, **settings),
    )
    assert [(c.id, c.confirmed) for c in found] == [(cause, True) for cause in expected]


def lion(parameters: Any, sign: Any, betas: tuple[float, float]) -> Any:
    """Lion as it is written out for PyTorch, which has none."""
    import torch

    class Lion(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__(parameters, {"lr": 1e-3, "betas": betas})

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                    one, two = group["betas"]
                    p.sub_(group["lr"] * sign(one * m + (1 - one) * p.grad))
                    m.mul_(two).add_((1 - two) * p.grad)

    return Lion()


def test_lion() -> None:
    import keras
    import torch

    (cause,) = causes_of(lambda p: lion(p, torch.sign, (0.9, 0.95)), lambda: keras.optimizers.Lion(1e-3))
    assert (cause.id, cause.confirmed) == ("optimizer_setting", True)
    assert "beta_2: 0.95 in torch, 0.99 in keras" in cause.summary
    bent = causes_of(lambda p: lion(p, torch.tanh, (0.9, 0.95)), lambda: keras.optimizers.Lion(1e-3))
    assert not any(c.confirmed for c in bent)
