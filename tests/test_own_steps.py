"""Training steps that share nothing with the standard one: gradients taken one by one, losses that go apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
from ports import assert_parts_in, keras_sgd, torch_sgd
from setups import assert_equivalent, run
from torch.nn import functional as F

import xcheck

NOISE, DATA = 2, 3


class Adversaries(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.judge = torch.nn.Linear(NOISE, DATA), torch.nn.Linear(DATA, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"fake": self.generator(z), "real": self.judge(x)}


def torch_step(model: Any, optimizer: Any, batch: Any) -> torch.Tensor:
    """The gradients are taken by `torch.autograd.grad` and handed to the parameters."""
    made = model(**batch.inputs)
    judged = F.softplus(-made["real"]).mean() + F.softplus(model.judge(made["fake"].detach())).mean()
    fooled = F.softplus(-model.judge(made["fake"])).mean()
    mine, theirs = list(model.generator.parameters()), list(model.judge.parameters())
    found = [*torch.autograd.grad(fooled, mine), *torch.autograd.grad(judged, theirs)]
    for parameter, gradient in zip([*mine, *theirs], found, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return judged + fooled


class KerasAdversaries(keras.Model):
    def __init__(self, share: float) -> None:
        super().__init__(name="adversaries")
        self.share = share
        self.generator, self.judge = keras.layers.Dense(DATA, name="generator"), keras.layers.Dense(1, name="judge")

    def call(self, inputs: Any) -> Any:
        return {"fake": self.generator(inputs["z"]), "real": self.judge(inputs["x"])}

    def train_step(self, data: Any) -> Any:
        ops = keras.ops
        with tf.GradientTape(persistent=True) as tape:
            made = self(data[0] if isinstance(data, tuple) else data, training=True)
            fake = self.judge(ops.stop_gradient(made["fake"]))
            judged = ops.mean(ops.softplus(-made["real"])) + ops.mean(ops.softplus(fake))
            fooled = ops.mean(ops.softplus(-self.judge(made["fake"])))
        mine, theirs = self.generator.trainable_variables, self.judge.trainable_variables
        found = [self.share * g for g in tape.gradient(fooled, mine)] + tape.gradient(judged, theirs)
        self.optimizer.apply(found, mine + theirs)
        return {"loss": judged + fooled}


def adversaries(share: float = 1.0) -> xcheck.Pair:
    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch({"x": rng.standard_normal((6, DATA)), "z": rng.standard_normal((6, NOISE))})

    return xcheck.Pair(
        "adversaries",
        torch=xcheck.TorchSide(Adversaries, step=torch_step, optimizer=torch_sgd),
        keras=xcheck.KerasSide(lambda: KerasAdversaries(share), optimizer=keras_sgd),
        batches=batches,
    )


def test_gradients_that_a_step_takes_by_itself() -> None:
    result = assert_equivalent(adversaries(), steps=2)
    assert {c.name for c in result.checks if c.phase == "forward"} >= {"fake (training)", "real (training)"}
    gradients = [c for c in result.checks if (c.phase, c.precision) == ("gradient", "float64") and not c.of_use]
    assert len([c for c in gradients if not c.at_ordinary]) == 8


def test_a_gradient_that_is_scaled_on_the_way() -> None:
    assert_parts_in(run(adversaries(1 + 1e-9), steps=1), "gradient")
