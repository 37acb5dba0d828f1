"""Models without a forward pass of their own, such as the two networks of a GAN: their training step is their pass."""

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

entropy = nn.functional.binary_cross_entropy_with_logits


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"real": rng.standard_normal((6, 4)), "noise": rng.standard_normal((6, 3))})


class TorchGAN(nn.Module):
    def __init__(self, function: Any = nn.Tanh) -> None:
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(3, 5), function(), nn.Linear(5, 4))
        self.judge = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))


def torch_optimizers(parameters: Any, model: Any) -> Any:
    return {
        "judge": torch.optim.SGD(model.judge.parameters(), 0.05),
        "maker": torch.optim.SGD(model.maker.parameters(), 0.1),
    }


def torch_step(model: Any, optimizer: Any, batch: Any, real: float = 1.0) -> Any:
    made = model.maker(batch.inputs["noise"])
    optimizer["judge"].zero_grad()
    of_real, of_made = model.judge(batch.inputs["real"]), model.judge(made.detach())
    judged = entropy(of_real, real * torch.ones_like(of_real)) + entropy(of_made, torch.zeros_like(of_made))
    judged.backward()
    optimizer["judge"].step()
    optimizer["maker"].zero_grad()
    seen = model.judge(model.maker(batch.inputs["noise"]))
    fooled = entropy(seen, torch.ones_like(seen))
    fooled.backward()
    optimizer["maker"].step()
    return {"judged": judged, "fooled": fooled}


class KerasGAN(keras.Model):
    def __init__(self, function: str = "tanh") -> None:
        super().__init__()
        layers = keras.layers
        self.maker = keras.Sequential([keras.Input((3,)), layers.Dense(5, function), layers.Dense(4)], name="maker")
        self.judge = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(1)], name="judge")
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def compile(self, rate: float = 0.1) -> None:
        super().compile()
        self.of_maker, self.of_judge = keras.optimizers.SGD(rate), keras.optimizers.SGD(0.05)

    def train_step(self, data: Any) -> Any:
        made = self.maker(data["noise"], training=True)
        with tf.GradientTape() as tape:
            of_real, of_made = self.judge(data["real"], training=True), self.judge(made, training=True)
            judged = self.entropy(tf.ones_like(of_real), of_real) + self.entropy(tf.zeros_like(of_made), of_made)
        variables = self.judge.trainable_variables
        self.of_judge.apply(tape.gradient(judged, variables), variables)
        with tf.GradientTape() as tape:
            seen = self.judge(self.maker(data["noise"], training=True), training=True)
            fooled = self.entropy(tf.ones_like(seen), seen)
        variables = self.maker.trainable_variables
        self.of_maker.apply(tape.gradient(fooled, variables), variables)
        return {"judged": judged, "fooled": fooled}


def checked(*, function: str = "tanh", rate: float = 0.1, real: float = 1.0, **settings: Any) -> xcheck.Result:
    def build() -> Any:
        model = KerasGAN(function)
        model.compile(rate)
        return model

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        return torch_step(model, optimizer, batch, real)

    side = xcheck.TorchSide(TorchGAN, step=step, optimizer=torch_optimizers)
    pair = xcheck.Pair("gan", side, xcheck.KerasSide(build), batches)
    return xcheck.check(pair, **{"steps": 2, "precision": ("float64",), "free_steps": 0, "reach": "none", **settings})


def test_a_gan_is_matched_and_equivalent_in_both_precisions_and_free() -> None:
    result = checked(precision=("float64", "float32"), free_steps=3, reach="default")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"]["matched"] == 8
    assert not [c for c in result.checks if c.phase == "forward"]
    assert any("neither model has a forward pass" in note for note in result.notes)


@pytest.mark.parametrize(
    ("fault", "phase"),
    [({"real": 0.9}, "loss"), ({"rate": 0.11}, "update")],
)
def test_a_fault_of_a_step_is_found_in_its_phase(fault: dict[str, Any], phase: str) -> None:
    result = checked(**fault)
    assert result.verdict == "DIFFERENT", result.report()
    assert result.first_divergence is not None
    assert result.first_divergence.phase == phase


def test_a_fault_of_a_network_is_never_equivalent() -> None:
    assert checked(function="relu").verdict in ("DIFFERENT", "INCONCLUSIVE")


def test_a_forward_pass_that_this_model_alone_has_is_called() -> None:
    def build_torch() -> Any:
        model = TorchGAN()
        model.forward = lambda real, noise: model.judge(real) + model.judge(model.maker(noise))
        return model

    def build_keras() -> Any:
        model = KerasGAN()
        model.call = lambda data, training=False: model.judge(data["real"]) + model.judge(model.maker(data["noise"]))
        model.compile()
        return model

    side = xcheck.TorchSide(build_torch, step=torch_step, optimizer=torch_optimizers)
    pair = xcheck.Pair("called", side, xcheck.KerasSide(build_keras), batches)
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, reach="none")
    assert result.verdict == "EQUIVALENT", result.report()
    assert [c.name for c in result.checks if c.phase == "forward"]


def test_without_a_step_a_model_without_a_forward_pass_is_refused() -> None:
    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])

    pair = xcheck.Pair("gan", xcheck.TorchSide(TorchGAN), xcheck.KerasSide(build), batches)
    with pytest.raises(xcheck.BadInput, match="called with this batch"):
        xcheck.check(pair, steps=1)
