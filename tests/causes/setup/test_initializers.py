"""Parameters that start from one stream of random numbers are found, on either side; independent ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from ports import mlp

import xcheck
from xcheck.causes.setup.initializers import same_random_stream

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
