"""Arguments of `xcheck.optim` under the names of either framework."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xcheck import optim
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
    assert configs[0]["learning_rate"] == pytest.approx(0.1)  # held in float32


def test_one_half_of_the_betas_leaves_the_other_as_it_is() -> None:
    assert optim_torch.KerasAdam(parameter(), beta_1=0.5).defaults["betas"] == (0.5, 0.999)
    assert optim_torch.KerasAdam(parameter(), beta_2=0.5).defaults["betas"] == (0.9, 0.5)


def test_a_group_takes_both_spellings() -> None:
    groups = [
        {"params": parameter(), "learning_rate": 0.5, "beta_1": 0.1, "beta_2": 0.2, "epsilon": 1e-3},
        {"params": parameter()},
    ]
    one, two = optim_torch.KerasAdam(groups, lr=0.1).param_groups
    assert (one["lr"], one["betas"], one["eps"]) == (0.5, (0.1, 0.2), 1e-3)
    assert (two["lr"], two["betas"], two["eps"]) == (0.1, (0.9, 0.999), 1e-7)


def test_an_argument_with_two_values_is_refused() -> None:
    with pytest.raises(BadInput, match=r"(?s)two names.*learning_rate and lr"):
        optim_torch.KerasAdam(parameter(), lr=0.1, learning_rate=0.2)
    with pytest.raises(BadInput, match="two names"):
        optim_keras.TorchAdam(betas=(0.1, 0.2), beta_1=0.3)


def test_a_scheduler_of_pytorch_that_moves_the_betas_finds_them() -> None:
    optimizer = optim_torch.KerasAdam(parameter(), learning_rate=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=4, base_momentum=0.5, max_momentum=0.75)
    assert optimizer.param_groups[0]["betas"] == (0.75, 0.999)


def test_no_decay_may_be_none_as_in_keras() -> None:
    assert optim_keras.TorchAdam(weight_decay=None).weight_decay == 0.0
