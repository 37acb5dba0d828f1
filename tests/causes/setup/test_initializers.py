"""Parameters that start from one stream of random numbers are found, on either side; independent ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ports import mlp

import xcheck
from xcheck.causes.setup.initializers import same_random_stream
from xcheck.numerics.distributions import Distribution

STREAM = np.random.default_rng(0).standard_normal(600)


def test_a_stream_scaled_to_two_shapes_is_found() -> None:
    found = same_random_stream("keras", {"a": STREAM[:60].reshape(6, 10) * 0.3, "b": STREAM.reshape(20, 30) * 7 + 1})
    assert [(c.id, c.keras, c.torch, c.confirmed) for c in found] == [("same_random_stream", "a = b", None, True)]


def test_few_numbers_and_a_last_block_that_is_drawn_again_hide_no_stream() -> None:
    """A kernel of (4, 2) beside one of (6, 4); normal numbers of PyTorch, whose last 16 are drawn by themselves."""
    assert same_random_stream("keras", {"a": STREAM[:24], "b": STREAM[:8].reshape(4, 2)})
    again = np.concatenate([STREAM[:20], STREAM[100:116]])
    assert same_random_stream("torch", {"a": STREAM, "b": again})
    assert not same_random_stream("torch", {"a": STREAM, "b": again[13:]})


def test_independent_draws_constants_and_small_ones_are_not() -> None:
    other = np.random.default_rng(1).standard_normal(600)
    parameters = {"a": STREAM, "b": other, "ones": np.ones(600), "more ones": np.ones(600)}
    parameters |= {"small": STREAM[:4], "other": STREAM[1:]}
    gates = np.repeat([0.0, 1.0, 0.0, 0.0], 20)  # the bias of an LSTM, whose forget gate starts at one
    parameters |= {"gates": gates, "more gates": gates}
    decays = np.tile(np.log(np.arange(1.0, 17.0)), (32, 1))  # of a state space model, the same in every layer
    parameters |= {"decays": decays, "more decays": decays, "slopes": 0.5 ** np.arange(8), "more": 0.5 ** np.arange(8)}
    assert same_random_stream("torch", parameters) == []


def test_only_what_an_initializer_drew_is_one_stream_and_the_advice_names_it() -> None:
    values = {"a": STREAM[:400], "b": STREAM * 0.1}
    drawn = {"a": Distribution("normal", 0.0, 1.0, "RandomNormal"), "b": Distribution("normal", 0.0, 0.1, "HeNormal")}
    (cause,) = same_random_stream("keras", values, drawn)
    assert "keras.initializers.RandomNormal or HeNormal(seed=i)" in cause.fix
    zeros = Distribution("constant", 0.0, 0.0, "Zeros")
    for other in (zeros, Distribution("normal", 3.0, 1.0, "RandomNormal"), Distribution("uniform", -9, 18, "X")):
        assert not same_random_stream("keras", values, drawn | {"a": other})
    assert not same_random_stream("keras", values, {"a": drawn["a"]})  # loaded, or made by the layer itself


@pytest.mark.parametrize("weights", [True, False])
def test_weights_that_were_carried_over_are_no_stream(weights: bool) -> None:
    """Both layers of both sides start from one kernel, which no side has drawn."""
    kernel = STREAM[:36].reshape(6, 6)

    def torch() -> Any:
        import torch

        model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6))
        with torch.no_grad():
            for layer in (model[0], model[2]):
                layer.weight.copy_(torch.tensor(kernel.T))
        return model

    def keras() -> Any:
        import keras

        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(6)])
        if weights:
            for layer in model.layers:
                layer.kernel.assign(kernel)
        return model

    def batches(seed: int) -> Any:
        while True:
            yield xcheck.Batch(np.random.default_rng(seed).standard_normal((5, 6)))

    pair = xcheck.Pair("carried", xcheck.TorchSide(torch), xcheck.KerasSide(keras), batches)
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0)
    assert [c.id for c in result.causes] == ([] if weights else ["same_random_stream"])


@pytest.mark.parametrize("shared", [True, False])
def test_one_initializer_object_for_two_layers_of_keras(shared: bool) -> None:
    def build():
        import keras

        first = keras.initializers.HeNormal()
        second = first if shared else keras.initializers.HeNormal()
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, activation="tanh", kernel_initializer=first, name="hidden"),
                keras.layers.Dense(3, kernel_initializer=second, name="head"),
            ]
        )

    result = xcheck.check(mlp(keras={"build": build}), steps=1, precision=("float64",), free_steps=0)
    assert result.verdict == "EQUIVALENT", result.report()  # training is the same from synced weights
    assert [c.keras for c in result.causes] == (["sequential/hidden/kernel = sequential/head/kernel"] if shared else [])


def test_a_generator_reset_between_two_layers_of_torch() -> None:
    def build():
        import torch
        from ports import torch_mlp

        model = torch_mlp()
        for layer in (model[0], model[2]):
            torch.manual_seed(3)
            torch.nn.init.uniform_(layer.weight)
        return model

    result = xcheck.check(mlp(torch={"build": build}), steps=1, precision=("float64",), free_steps=0)
    assert [c.torch for c in result.causes] == ["0.weight = 2.weight"]
    assert "generator" in result.causes[0].fix


@pytest.mark.parametrize("copied", [("torch", "keras"), ("torch",), ("keras",)])
def test_what_starts_as_a_copy_is_no_stream_where_both_sides_copy_and_unproven_where_one_does(copied: Any) -> None:
    """A teacher starts as its student; a second layer that one side alone starts so may be a seed used twice."""

    def torch() -> Any:
        import torch

        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
        if "torch" in copied:
            model[2].load_state_dict(model[0].state_dict())
        return model

    def keras() -> Any:
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(4)])
        if "keras" in copied:
            model.layers[1].set_weights(model.layers[0].get_weights())
        return model

    def batches(seed: int) -> Any:
        while True:
            yield xcheck.Batch(np.random.default_rng(seed).standard_normal((5, 4)))

    weight_map = {"0.weight": "sequential/dense/kernel", "2.weight": "sequential/dense_1/kernel"}
    sides = xcheck.TorchSide(torch), xcheck.KerasSide(keras)
    pair = xcheck.Pair("copied", *sides, batches, weight_map=weight_map)
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0)
    assert [(c.id, c.confirmed) for c in result.causes] == (
        [] if len(copied) == 2 else [("same_random_stream", False)]
    ), result.report()
