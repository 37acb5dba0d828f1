"""A setting that a layer's or an optimizer's `get_config` leaves out is reported without saving anything."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import xcheck


class Forgets(keras.layers.Layer):
    def __init__(self, slope: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, x: Any) -> Any:
        return keras.ops.leaky_relu(x, self.slope)

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


class ForgetsHidden(Forgets):
    def __init__(self, slope: float = 0.01, **kwargs: Any) -> None:
        super().__init__(slope, **kwargs)
        self._slope = slope
        del self.slope

    def call(self, x: Any) -> Any:
        return keras.ops.leaky_relu(x, self._slope)


class Keeps(Forgets):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slope": self.slope}


class OtherName(Forgets):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.slope}

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        return cls(config.pop("alpha"), **config)


class ByKeras(keras.layers.Layer):
    def __init__(self, slope: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, x: Any) -> Any:
        return keras.ops.leaky_relu(x, self.slope)


class ForgetfulSGD(keras.optimizers.SGD):
    def __init__(self, learning_rate: float = 0.01, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.factor = factor

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((4, 3)))


def checked(layer: Any, optimizer: Any = None, model: Any = None, **settings: Any) -> xcheck.Result:
    def build_keras() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), layer()])

    sgd = None if optimizer is None else partial(torch.optim.SGD, lr=0.01)
    side = xcheck.TorchSide(lambda: nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.3)), optimizer=sgd)
    pair = xcheck.Pair("lost", side, xcheck.KerasSide(model or build_keras, optimizer=optimizer), batches)
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, reach="none", **settings)


@pytest.mark.parametrize("layer", [Forgets, ForgetsHidden])
def test_a_layer_that_forgets_a_setting_is_different_and_named(layer: Any) -> None:
    result = checked(lambda: layer(0.3, name="act"))
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.keras) == ("persistence", "act.slope")
    (cause,) = [c for c in result.causes if c.confirmed]
    assert cause.id == "setting_not_saved"


def test_an_optimizer_that_forgets_a_setting_is_named() -> None:
    result = checked(lambda: Keeps(0.3), lambda: ForgetfulSGD(0.01, factor=2.0))
    assert [c.keras for c in result.checks if c.verdict == "DIFFERENT"] == ["forgetful_sgd.factor"]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Keeps(0.3),
        lambda: OtherName(0.3),
        lambda: ByKeras(0.3),
        lambda: keras.layers.LeakyReLU(0.3),
        lambda: keras.layers.Lambda(lambda x: keras.ops.leaky_relu(x, 0.3)),
    ],
)
def test_a_layer_that_returns_its_settings_is_equivalent(layer: Any) -> None:
    result = checked(layer)
    assert result.verdict == "EQUIVALENT", result.report()


def test_a_default_that_is_left_out_is_no_loss() -> None:
    class Default(Forgets):
        def __init__(self, slope: float = 0.3, **kwargs: Any) -> None:
            super().__init__(slope, **kwargs)

    assert checked(Default).verdict == "EQUIVALENT"


class BuildsItsOwn(keras.Model):
    """Its config names no layer: it makes them itself, with their settings."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense, self.act = keras.layers.Dense(3), Forgets(0.3)

    def call(self, x: Any) -> Any:
        return self.act(self.dense(x))


class Raises(Forgets):
    def get_config(self) -> dict[str, Any]:
        return {"slope": self.no_such_attribute}


def test_a_model_that_builds_its_layers_itself_loses_nothing() -> None:
    result = checked(None, model=BuildsItsOwn)
    assert result.verdict == "EQUIVALENT", result.report()


def test_a_config_that_cannot_be_asked_for_is_left_alone() -> None:
    assert checked(lambda: Raises(0.3)).verdict == "EQUIVALENT"


def test_a_run_of_some_phases_does_not_ask() -> None:
    result = checked(lambda: Forgets(0.3), phases=("forward", "loss"))
    assert result.verdict == "EQUIVALENT"
