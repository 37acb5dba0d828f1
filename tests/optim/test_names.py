"""Arguments of `xcheck.optim` under the names of either framework."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xcheck import optim
from xcheck.causes.update.formulas import FAMILIES, FOLLOWED
from xcheck.errors import BadInput

optim_torch: Any = optim.torch
optim_keras: Any = optim.keras


def parameter() -> list[torch.Tensor]:
    return [torch.nn.Parameter(torch.ones(2))]


TWICE = {
    "Adam": (
        {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3},
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    ),
    "RMSprop": ({"lr": 0.1, "alpha": 0.7, "eps": 1e-3}, {"learning_rate": 0.1, "rho": 0.7, "epsilon": 1e-3}),
    "AdamW": (
        {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.2},
        {"learning_rate": 0.1, "epsilon": 1e-3, "weight_decay": 0.2},
    ),
    "SGD": ({"lr": 0.1, "momentum": 0.5}, {"learning_rate": 0.1, "momentum": 0.5}),
}


@pytest.mark.parametrize("name", TWICE)
def test_both_spellings_make_one_optimizer(name: str) -> None:
    made = [getattr(optim_torch, f"Keras{name}")(parameter(), **spelled).defaults for spelled in TWICE[name]]
    assert made[0] == made[1]
    assert made[0]["lr"] == 0.1
    configs = [getattr(optim_keras, f"Torch{name}")(**spelled, name="one").get_config() for spelled in TWICE[name]]
    assert configs[0] == configs[1]
    assert configs[0]["lr"] == pytest.approx(0.1)


def test_one_half_of_the_betas_leaves_the_other_as_it_is() -> None:
    assert optim_keras.TorchAdam(beta_1=0.5).betas == (0.5, 0.999)


def test_a_group_takes_both_spellings() -> None:
    groups = [{"params": parameter(), "learning_rate": 0.5, "betas": (0.1, 0.2)}, {"params": parameter()}]
    one, two = optim_torch.KerasAdam(groups, lr=0.1).param_groups
    assert (one["lr"], one["beta_1"], one["beta_2"]) == (0.5, 0.1, 0.2)
    assert (two["lr"], two["beta_1"], two["beta_2"]) == (0.1, 0.9, 0.999)


def test_an_argument_with_two_values_is_refused() -> None:
    with pytest.raises(BadInput, match=r"(?s)two values.*lr and learning_rate"):
        optim_torch.KerasAdam(parameter(), lr=0.1, learning_rate=0.2)
    with pytest.raises(BadInput, match="two values"):
        optim_keras.TorchAdam(betas=(0.1, 0.2), beta_1=0.3)


@pytest.mark.parametrize("unknown", ["dampening", "epsilonn"])
def test_an_unknown_argument_is_named_with_those_there_are(unknown: str) -> None:
    with pytest.raises(BadInput, match=rf"(?s)no argument {unknown}.*learning_rate or lr"):
        optim_torch.KerasSGD(parameter(), **{unknown: 0.1})
    with pytest.raises(BadInput, match=rf"(?s)no argument {unknown}.*lr or learning_rate"):
        optim_keras.TorchAdam(**{unknown: 0.1})


def test_advice_names_the_followers_that_there_are() -> None:
    assert set(FOLLOWED) == {name.removeprefix("Keras") for name in optim.__all__ if name.startswith("Keras")}
    assert set(FOLLOWED) < set(FAMILIES)
