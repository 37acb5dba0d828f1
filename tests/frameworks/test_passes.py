"""Passes that nothing is differentiated from: one for a log is no difference, one that feeds the loss shows there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

import xcheck


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((6, 4)), rng.standard_normal((6, 2)))


def torch_step(further: str) -> Any:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        x, y = batch.inputs, batch.targets
        optimizer.zero_grad()
        if further:
            with torch.no_grad():
                seen = model(x)
            y = seen if further == "targets" else y
        loss = ((model(1.5 * x) - y - 1) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


class Own(keras.Model):
    def __init__(self, further: str, dropout: float) -> None:
        super().__init__()
        self.further, self.drop = further, keras.layers.Dropout(dropout)
        self.first, self.last = keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.last(self.drop(self.first(x), training=training))

    def train_step(self, data: Any) -> Any:
        x, y = data
        if self.further == "log":
            self(x, training=True)
        if self.further == "targets before":
            y = self(x, training=False)
        with tf.GradientTape() as tape:
            if self.further == "targets":
                y = tf.stop_gradient(self(x, training=True))
            loss = tf.reduce_mean((self(1.5 * x, training=True) - y - 1) ** 2)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def checked(in_torch: str, in_keras: str, dropout: float = 0.0, in_keras_dropout: float | None = None) -> xcheck.Result:
    def build_torch() -> Any:
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 2))

    pair = xcheck.Pair(
        "passes",
        xcheck.TorchSide(build_torch, step=torch_step(in_torch), optimizer=lambda p: torch.optim.SGD(p, lr=0.1)),
        xcheck.KerasSide(
            lambda: Own(in_keras, dropout if in_keras_dropout is None else in_keras_dropout),
            optimizer=lambda: keras.optimizers.SGD(0.1),
        ),
        batches,
    )
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, reach="none")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("in_torch", "in_keras"), [("log", ""), ("", "log"), ("log", "log"), ("targets", "targets")])
def test_a_pass_for_a_log_is_no_difference(in_torch: str, in_keras: str, dropout: float) -> None:
    result = checked(in_torch, in_keras, dropout)
    assert result.verdict == "EQUIVALENT", result.report()
    lacking = {"torch": not in_keras, "keras": not in_torch}
    for side, noted in lacking.items():
        assert any(f"passes of the {side} side" in note for note in result.notes) == noted


def test_a_pass_that_feeds_the_loss_of_one_side_shows_there() -> None:
    result = checked("targets", "")
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "loss"


def test_a_dropout_that_one_side_lacks_shows_beside_a_pass_for_a_log() -> None:
    result = checked("log", "", 0.3, in_keras_dropout=0.0)
    assert result.verdict == "DIFFERENT"
    assert "dropout rates" in [c.name for c in result.checks if c.verdict == "DIFFERENT"]


def test_a_dropout_in_such_a_pass_counts_where_both_sides_make_it() -> None:
    result = checked("targets", "targets before", 0.3)
    assert result.verdict == "DIFFERENT", result.report()
    assert "dropout rates" in [c.name for c in result.checks if c.verdict == "DIFFERENT"]
