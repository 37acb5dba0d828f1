"""In a check: an optimizer and its follower are equivalent over re-synced steps, plain counterparts are not.

This also holds the slot tables: a slot that was not carried over, or carried over in the wrong units, shows in the
second step.
"""

from __future__ import annotations

from typing import Any

import keras
import pytest
import torch
from ports import assert_parts_in, mlp

import xcheck
from xcheck.optim.keras import optimizers as like_torch
from xcheck.optim.torch import optimizers as like_keras

pytestmark = pytest.mark.slow

FOLLOWED_BY_TORCH = {
    "SGD": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"learning_rate": 0.01, "momentum": 0.5, "centered": True},
    "Adam": {"learning_rate": 0.01, "amsgrad": True, "clipnorm": 0.1},
    "AdamW": {"learning_rate": 0.01, "weight_decay": 0.1},
    "Adagrad": {"learning_rate": 0.01},
    "Adamax": {"learning_rate": 0.01},
    "Nadam": {"learning_rate": 0.01},
}
FOLLOWED_BY_KERAS = {
    "SGD": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "RMSprop": ("RMSprop", {"lr": 0.01, "momentum": 0.5, "centered": True}),
    "Adam": ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    "AdamW": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "Adagrad": ("Adagrad", {"lr": 0.01}),
    "Adamax": ("Adamax", {"lr": 0.01}),
    "Nadam": ("NAdam", {"lr": 0.01}),
}


@pytest.mark.parametrize("name", FOLLOWED_BY_TORCH)
def test_torch_follows_keras(name: str) -> None:
    options = FOLLOWED_BY_TORCH[name]
    follower = getattr(like_keras, f"Keras{name}")
    original = getattr(keras.optimizers, name)
    pair = mlp(torch={"optimizer": lambda p: follower(p, **options)}, keras={"optimizer": lambda: original(**options)})
    result = xcheck.check(pair, steps=3, free_steps=0)
    # Keras's Nadam takes 1 - beta_2 in float32, which costs it two digits that its follower keeps.
    assert result.verdict == ("NUMERIC" if name == "Nadam" else "EQUIVALENT"), result.report()
    assert any("[" in c.name for c in result.checks if c.phase == "update")  # slots were compared


@pytest.mark.parametrize("name", FOLLOWED_BY_KERAS)
def test_keras_follows_torch(name: str) -> None:
    torch_name, options = FOLLOWED_BY_KERAS[name]
    follower = getattr(like_torch, f"Torch{name}")
    original = getattr(torch.optim, torch_name)
    pair = mlp(torch={"optimizer": lambda p: original(p, **options)}, keras={"optimizer": lambda: follower(**options)})
    result = xcheck.check(pair, steps=3, free_steps=0)
    assert result.verdict == "EQUIVALENT", result.report()


@pytest.mark.parametrize(
    ("name", "torch_options", "keras_options"),
    [
        ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-7}, {"learning_rate": 0.01}),
        ("Adam", {"lr": 0.01, "eps": 1e-7}, {"learning_rate": 0.01}),
        ("Adagrad", {"lr": 0.01}, {"learning_rate": 0.01}),
        ("AdamW", {"lr": 0.01, "eps": 1e-7, "weight_decay": 0.004}, {"learning_rate": 0.01}),
    ],
)
def test_plain_counterparts_part_in_the_update(
    name: str, torch_options: dict[str, Any], keras_options: dict[str, Any]
) -> None:
    pair = mlp(
        torch={"optimizer": lambda p: getattr(torch.optim, name)(p, **torch_options)},
        keras={"optimizer": lambda: getattr(keras.optimizers, name)(**keras_options)},
    )
    assert_parts_in(xcheck.check(pair, steps=2), "update")


def test_plain_momentum_is_the_same_computation_while_the_rate_is_constant() -> None:
    pair = mlp(
        torch={"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)},
        keras={"optimizer": lambda: keras.optimizers.SGD(0.1, momentum=0.9)},
    )
    assert xcheck.check(pair, steps=3, free_steps=0).verdict == "EQUIVALENT"


def test_a_row_that_is_looked_up_twice_moves_further_in_keras() -> None:
    """Keras squares each slice of a sparse gradient by itself, so Adam sees a smaller second moment."""
    import numpy as np
    from torch import nn

    def batches(seed: int) -> Any:
        while True:
            yield xcheck.Batch(np.array([[1, 1, 2]]), np.array([0]))

    def build_keras() -> keras.Model:
        tokens = keras.Input((3,), dtype="int32")
        x = keras.layers.Embedding(4, 5, name="table")(tokens)
        return keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(x))

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 5)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.table(tokens).mean(dim=1)

    def pair(keras_optimizer: Any, torch_optimizer: Any) -> xcheck.Pair:
        return mlp(
            torch={"build": Mean, "optimizer": torch_optimizer},
            keras={"build": build_keras, "optimizer": keras_optimizer},
            batches=batches,
            weight_map={"table.weight": "table/embeddings"},
        )

    plain = pair(lambda: keras.optimizers.Adam(0.1), lambda p: like_keras.KerasAdam(p, learning_rate=0.1))
    assert_parts_in(xcheck.check(plain, steps=1), "update")
    summed = pair(lambda: like_torch.TorchAdam(lr=0.1), lambda p: torch.optim.Adam(p, lr=0.1))
    assert xcheck.check(summed, steps=2).verdict == "EQUIVALENT"
