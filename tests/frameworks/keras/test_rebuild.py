"""Keras models that exist before the run: made again in its float type, with their weights and their ties."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import xcheck
from xcheck.errors import PairError
from xcheck.frameworks.keras.runner import KerasRunner
from xcheck.frameworks.keras.variables import to_numpy

WIDTH = 4


def batches(seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((3, WIDTH)))


def runner(model: Any, precision: str = "float64", **parts: Any) -> KerasRunner:
    made = KerasRunner(xcheck.KerasSide(model, **parts), precision=precision, device="cpu", seed=0)
    made.prime(next(batches(0)))
    return made


class Twice(keras.layers.Layer):
    """Holds a layer that the model has elsewhere too, and says so in its config."""

    def __init__(self, inner: Any, **options: Any) -> None:
        super().__init__(**options)
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x)


class Bare(keras.Model):
    """Keras knows no config of a model with arguments, unless it has a `get_config`."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.one, self.two = keras.layers.Dense(width), keras.layers.Dense(width)

    def call(self, x: Any) -> Any:
        return self.two(keras.ops.tanh(self.one(self.one(x))))


class Subclassed(keras.Model):
    """Its layers have no names of their own."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width
        self.one, self.two = keras.layers.Dense(width), keras.layers.Dense(width)

    def call(self, x: Any) -> Any:
        return self.two(keras.ops.tanh(self.one(x)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


def functional(tied: bool = True) -> keras.Model:
    x = keras.Input((WIDTH,))
    shared = keras.layers.Dense(WIDTH, name="shared", bias_initializer="normal")
    again = shared if tied else keras.layers.Dense(WIDTH, name="own")
    return keras.Model(x, keras.layers.Dense(2, name="head")(again(keras.ops.tanh(shared(x)))))


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])


def subclassed() -> keras.Model:
    model = Subclassed(WIDTH)
    model(np.zeros((1, WIDTH), np.float32))
    return model


def nested() -> keras.Model:
    x = keras.Input((WIDTH,))
    inner = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(WIDTH, name="a")], name="inner")
    return keras.Model(x, inner(inner(x)))


@pytest.mark.parametrize("build", [functional, sequential, subclassed, nested])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_built_model_is_made_again_with_its_weights_and_stays_as_it_is(build, precision) -> None:
    given = build()
    before = [to_numpy(v) for v in given.variables]
    side = runner(given, precision)
    assert side.model is not given
    held = side.inventory()
    assert {e.dtype for e in held.entries} == {precision}
    for mine, new in zip(before, side.model.variables, strict=True):
        np.testing.assert_array_equal(mine, to_numpy(new))
    side.step(1, next(batches(0)))
    assert any(not np.array_equal(a, to_numpy(v)) for a, v in zip(before, side.model.variables, strict=True))
    assert [v._dtype for v in given.variables] == ["float32"] * len(before)
    for mine, own in zip(before, given.variables, strict=True):
        np.testing.assert_array_equal(mine, to_numpy(own))


def test_a_layer_that_is_used_twice_is_still_one() -> None:
    assert [e.path for e in runner(functional()).inventory().entries if "shared" in e.path] == [
        "shared/kernel",
        "shared/bias",
    ]


def test_what_was_compiled_comes_along() -> None:
    given = sequential()
    given.compile("adam", "mse")
    given.optimizer.learning_rate = 0.25
    side = runner(given)
    assert type(side.model.optimizer).__name__ == "Adam"
    assert float(to_numpy(side.model.optimizer.learning_rate)) == 0.25


def test_a_function_that_gives_a_model_that_exists_is_as_good_as_the_model() -> None:
    given = functional()
    side = runner(lambda: given)
    assert {e.dtype for e in side.inventory().entries} == {"float64"}


def test_a_tie_that_the_config_does_not_tell_is_not_lost_in_silence() -> None:
    given = functional(tied=False)
    own, shared = given.get_layer("own"), given.get_layer("shared")
    own._tracker.unlock()
    own._trainable_variables.pop(0)
    own._kernel = shared._kernel  # which no config tells
    own._trainable_variables.reverse()
    with pytest.raises(PairError, match="gives a different model") as caught:
        runner(given)
    assert "function that builds" in str(caught.value)


def bare() -> keras.Model:
    given = Bare(WIDTH)
    given.compile("adam", "mse")
    x, y = np.ones((3, WIDTH), np.float32), np.ones((3, WIDTH), np.float32)
    given.fit(x, y, verbose=0)
    return given


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_model_without_a_config_is_cast_and_then_given_back(precision) -> None:
    given = bare()
    before, optimizer = [to_numpy(v) for v in given.variables], given.optimizer
    x = np.ones((2, WIDTH), np.float32)
    made = given.predict(x, verbose=0)
    side = runner(given, precision)
    assert side.model is given
    assert {e.dtype for e in side.inventory().entries} == {precision}
    side.step(1, xcheck.Batch(x, np.ones_like(x)))
    with pytest.raises(PairError, match="cannot be rebuilt in the float type") as caught:
        runner(given)
    assert "function that builds" in str(caught.value)
    side.close()
    assert [v._dtype for v in given.variables] == ["float32"] * len(before)
    for mine, own in zip(before, given.variables, strict=True):
        np.testing.assert_array_equal(mine, to_numpy(own))
    assert given.optimizer is optimizer
    np.testing.assert_array_equal(made, given.predict(x, verbose=0))
    given.fit(x, np.ones((2, WIDTH), np.float32), verbose=0)


@pytest.mark.parametrize("cast", [False, True])
def test_built_models_of_both_frameworks_are_a_pair(cast: bool) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh(), torch.nn.Linear(WIDTH, 2))
    model[0].weight.data *= 2
    x = keras.Input((WIDTH,))
    y = keras.layers.Dense(2)(keras.layers.Dense(WIDTH, activation="tanh")(x))
    given = keras.Model(x, y)

    class Wrapper(keras.Model):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

    if cast:
        given = Wrapper(given)
        given(np.zeros((1, WIDTH), np.float32))
    made = xcheck.Pair("built", xcheck.TorchSide(model), xcheck.KerasSide(given), batches)
    result = xcheck.check(made, steps=2)
    assert result.verdict == "EQUIVALENT", result.report()
    assert {c.precision for c in result.checks} >= {"float64", "float32"}
    assert model[0].weight.dtype is torch.float32
