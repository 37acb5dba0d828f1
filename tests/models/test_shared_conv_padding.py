"""One kernel under two paddings, and its tie after all that is done to a model."""

from __future__ import annotations

import numpy as np
import pytest

import xcheck
from xcheck.pairs.loading import load_pair

NAME = "shared_conv_padding"
AROUND = ("inventory", "sync", "gradient", "update")


@pytest.mark.parametrize("variant", ["PAIR", "AS_WRITTEN"])
def test_the_pair_is_the_same_computation(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert {(tie.status, tie.keras) for tie in result.ties} == {
        ("same", ("shared_conv/kernel",)),
        ("same", ("shared_conv/bias",)),
    }


def test_the_tie_and_the_next_step_are_checked_after_each_way_to_keep_a_model(checked):
    names = {c.name for c in checked(NAME).checks if c.phase == "persistence"}
    for way in (".keras", ".weights.h5", "clone_model"):
        assert {f"keras: tie of shared_conv/kernel after {way}", f"keras: {way}", f"keras: step after {way}"} <= names


@pytest.mark.slow
def test_a_patched_layer_trains_as_one_until_it_is_saved(checked):
    result = checked(f"{NAME}:PATCHED")
    assert result.expectation["held"], result.report()
    assert all(c.verdict == "EQUIVALENT" for c in result.checks if c.phase != "persistence")
    assert {c.phase for c in result.checks} >= {"loss", "gradient", "update", "trajectory"}
    assert "keras: tie of same/kernel after .keras" in {c.name for c in result.checks if c.verdict == "DIFFERENT"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 5])
def test_a_tiny_gradient_that_adam_makes_large_is_no_alarm(seed):
    result = xcheck.check(load_pair(f"{NAME}:PATCHED"), seed=seed, steps=2, phases=AROUND, precision=["float64"])
    assert result.verdict == "EQUIVALENT", result.report()


@pytest.mark.slow
def test_a_sum_over_the_positions_of_large_images_is_no_alarm():
    pair = load_pair(NAME, {"image_size": 299, "filters": 2, "batch_size": 12})
    result = xcheck.check(pair, steps=1, phases=AROUND, precision=["float64"])
    assert result.verdict == "EQUIVALENT", result.report()
    moment = next(c for c in result.checks if c.name == "same.bias [second_moment]")
    assert moment.error > 1e-12  # a million terms that round alike: no difference, and not small


def test_the_gradient_is_the_sum_of_both_paddings(checked, uses):
    assert uses(checked(NAME), "same.weight") == ["same (call 1)", "valid (call 1)"]


def test_as_written_some_outputs_are_clipped_and_some_are_not(checked):
    pair = load_pair(f"{NAME}:AS_WRITTEN")
    batch = next(pair.batches(0))
    outputs = np.asarray(pair.keras.build()(batch.inputs))
    inside = (outputs > 0) & (outputs < 1)
    assert inside.any()
    assert not inside.all()
    losses = [c for c in checked(f"{NAME}:AS_WRITTEN", steps=5).checks if (c.phase, c.name) == ("loss", "data")]
    assert max(c.keras_value for c in losses) > 2  # a clipped miss costs -log(1e-7) = 16


def test_as_written_an_output_outside_of_0_to_1_does_not_train():
    import torch

    pair = load_pair(f"{NAME}:AS_WRITTEN")
    outputs = torch.tensor([[-0.3], [1.3], [0.3]], requires_grad=True)
    pair.torch.loss(outputs, torch.tensor([[1.0], [0.0], [1.0]])).backward()
    assert outputs.grad.ravel()[:2].tolist() == [0, 0]
    assert outputs.grad[2] != 0


# What is done to a model -------------------------------------------------------------------------------------------


def built():
    return load_pair(NAME).keras.build()


def batch(number=0):
    drawn = next(load_pair(NAME).batches(number))
    return drawn.inputs, drawn.targets


def saved(model, tmp_path):
    import keras

    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def reweighted(model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    other = built()
    other.train_on_batch(*batch(9))
    other.load_weights(tmp_path / "model.weights.h5")
    return other


def cloned(model, tmp_path):
    import keras

    other = keras.models.clone_model(model)  # compiled as the model is
    other.set_weights(model.get_weights())
    return other


def untouched(model, tmp_path):
    return model


def assert_one_kernel(model):
    """One kernel by structure; and by effect: both branches follow it."""
    import keras

    (shared,) = (layer for layer in model.layers if layer.name == "shared_conv")
    assert len(model.weights) == 4
    assert [w.shape for w in shared.weights] == [(3, 3, 3, 8), (8,)]
    pools = [layer.output for layer in model.layers if "pooling" in layer.name]
    assert len(pools) == 2
    branches, kept = keras.Model(model.input, pools), shared.get_weights()
    before = [np.asarray(x) for x in branches(batch()[0])]
    shared.set_weights([2 * w for w in kept])
    after = [np.asarray(x) for x in branches(batch()[0])]
    shared.set_weights(kept)
    for x, twice in zip(before, after, strict=True):
        assert np.abs(x).max() > 0
        assert np.allclose(2 * x, twice, atol=1e-6)
    assert not np.allclose(before[0], before[1])  # two paddings


@pytest.mark.parametrize("done", [untouched, saved, reweighted, cloned])
def test_the_tie_and_the_next_step_survive(done, tmp_path):
    model = built()
    assert_one_kernel(model)
    model.train_on_batch(*batch(1))
    other = done(model, tmp_path)
    assert_one_kernel(other)
    assert np.allclose(other(batch()[0]), model(batch()[0]), atol=1e-6)
    before = other.get_weights()
    other.train_on_batch(*batch(2))
    assert_one_kernel(other)
    assert all(not np.array_equal(old, new) for old, new in zip(before, other.get_weights(), strict=True))
    if done is saved:  # with the optimizer, so that training goes on as if nothing had happened
        model.train_on_batch(*batch(2))
        for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
            assert np.allclose(mine, theirs, atol=1e-6)


def test_two_layers_are_not_taken_for_one_kernel():
    import keras

    image = keras.Input((12, 12, 3))
    pools = [
        keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, padding=padding, name=name)(image))
        for padding, name in (("same", "shared_conv"), ("valid", "other"))
    ]
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.Concatenate()(pools)))
    with pytest.raises(AssertionError):
        assert_one_kernel(model)
