"""Steps after loading that differ though all values came back: what was forgotten is named where it is all there is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from ports import mlp

import xcheck
from xcheck.optim.torch.optimizers import KerasAdamW


@keras.saving.register_keras_serializable("test_resumed")
class Sloppy(keras.optimizers.AdamW):
    """Forgets what it is told besides its config."""

    share = 1.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(keras.ops.tanh(gradient) if self.share != 1.0 else gradient, variable, learning_rate)


def after_saving(optimizer: Any) -> list[xcheck.Cause]:
    def groups(parameters: Any) -> Any:
        every = list(parameters)
        decayed, spared = [p for p in every if p.ndim > 1], [p for p in every if p.ndim == 1]
        return KerasAdamW([{"params": decayed}, {"params": spared, "weight_decay": None}], weight_decay=0.1)

    pair = mlp(torch={"optimizer": groups}, keras={"optimizer": optimizer})
    result = xcheck.check(
        pair, steps=1, precision=("float64",), phases=("inventory", "sync", "forward", "gradient", "persistence")
    )
    assert result.verdict == "DIFFERENT", result.report()
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "persistence"
    return [c for c in result.causes if c.confirmed]


def optimizer(kind: Any = keras.optimizers.AdamW) -> Any:
    made = kind(weight_decay=0.1)
    made.exclude_from_weight_decay(var_names=["bias"])
    return made


def test_what_decay_leaves_out_is_forgotten() -> None:
    (cause,) = after_saving(optimizer)
    assert cause.id == "decay_exclusion_not_saved"
    assert cause.keras is not None
    assert set(cause.keras.split(", ")) == {"hidden/bias", "head/bias"}


def test_nothing_is_named_where_more_is_forgotten() -> None:
    def told() -> Any:
        made = optimizer(Sloppy)
        made.share = np.float64(0.5)
        return made

    assert "decay_exclusion_not_saved" not in {c.id for c in after_saving(told)}


@keras.saving.register_keras_serializable("test_resumed")
class Odd(keras.regularizers.Regularizer):
    def __call__(self, x: Any) -> Any:
        return keras.ops.sum(keras.ops.abs(x) ** 3)

    def get_config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [(keras.regularizers.L1(0.1), True), (keras.regularizers.L2(0.1), True), (Odd(), False)],
    ids=["L1", "L2", "another"],
)
def test_a_penalty_that_each_copy_has(regularizer: Any, expected: bool) -> None:
    import torch

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(6, 3, bias=False)

        def forward(self, x: Any) -> Any:
            return self.dense(x) + self.dense(x * x)

    def build() -> Any:
        dense = keras.layers.Dense(3, use_bias=False, kernel_regularizer=regularizer, name="dense")
        one, two = (keras.Sequential([keras.Input((6,)), dense], name=name) for name in ("one", "two"))
        x = keras.Input((6,))
        return keras.Model(x, one(x) + two(x * x))

    def penalty(model: Any) -> Any:
        w = model.dense.weight
        name = type(regularizer).__name__
        return {"L1": 0.1 * w.abs().sum(), "L2": 0.1 * (w**2).sum(), "Odd": (w.abs() ** 3).sum()}[name]

    pair = mlp(
        torch={"build": Twice, "penalty": penalty},
        keras={"build": build},
        weight_map={"dense.weight": "one/dense/kernel"},
    )
    result = xcheck.check(pair, steps=1, precision=("float64",), phases=("inventory", "sync", "persistence"))
    assert result.verdict == "DIFFERENT", result.report()
    assert ("penalty_per_copy" in {c.id for c in result.causes if c.confirmed}) is expected
