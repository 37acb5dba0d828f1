"""One initializer object gives its layers one stream of numbers; training is equivalent all the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from xcheck.frameworks.keras.initializers import promised
from xcheck.numerics.distributions import distance_bound
from xcheck.pairs.loading import load_pair

NAME = "shared_initializer"


def kernels(variant, side):
    """The three initial weights of a side, in Keras's layout."""
    import keras

    keras.utils.set_random_seed(0)  # of PyTorch too
    model = getattr(load_pair(f"{NAME}:{variant}"), side).build()
    if side == "keras":
        return [np.asarray(layer.kernel) for layer in model.layers if layer.weights]
    return [layer.weight.detach().numpy().T for layer in model.layers]


def correlations(weights):
    streams = [(w.ravel() / w.std())[:600] for w in weights]
    return np.corrcoef(streams)[np.triu_indices(3, 1)]


@pytest.mark.parametrize("variant", ["PAIR", "ONE_EACH"])
def test_the_pair_trains_alike(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 6, "waived": 0, "unmatched": 0}


def test_the_shared_stream_is_reported_as_a_cause_with_its_fix(checked):
    (cause,) = checked(NAME).causes
    assert (cause.id, cause.phase, cause.confirmed) == ("same_random_stream", "initialization", True)
    assert cause.keras == "dense_0/kernel = dense_1/kernel = dense_2/kernel"
    assert "initializer per layer" in cause.fix
    assert checked(f"{NAME}:ONE_EACH").causes == ()  # the fix


def test_one_object_correlates_its_layers_fully_and_one_each_does_not():
    assert correlations(kernels("PAIR", "keras")) == pytest.approx([1, 1, 1])
    assert np.abs(correlations(kernels("ONE_EACH", "keras"))).max() < 0.25
    assert np.abs(correlations(kernels("PAIR", "torch"))).max() < 0.25


def test_keras_keeps_the_promise_of_its_initializer(checked):
    names = {c.name for c in checked(NAME).checks if c.phase == "initialization"}
    assert {f"dense_{i}/kernel (HeNormal)" for i in range(3)} <= names


def test_both_sides_start_from_one_distribution():
    import keras

    for mine, theirs in zip(kernels("ONE_EACH", "torch"), kernels("ONE_EACH", "keras"), strict=True):
        promise = promised(keras.initializers.HeNormal(), mine.shape)
        assert promise.distance(mine) <= distance_bound(mine.size, 1e-6)
        assert ks_2samp(mine.ravel(), theirs.ravel()).pvalue > 1e-6
        assert ks_2samp(mine.ravel(), 1.5 * theirs.ravel()).pvalue < 1e-3  # the test can fail


def test_a_name_makes_an_object_of_its_own_for_each_layer():
    import keras

    made = [keras.layers.Dense(30, kernel_initializer="he_normal") for _ in range(2)]
    for layer in made:
        layer.build((None, 30))
    assert not np.allclose(made[0].kernel, made[1].kernel)
