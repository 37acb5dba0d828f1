"""Weights of ordinary size: nothing is 0, 1 or tiny, activations stay in range, and structure is kept."""

import numpy as np
import pytest

from xcheck.numerics.ordinary_weights import TINY, ordinary_slots, ordinary_weights
from xcheck.records.inventory import Entry


def entry(path, value, role="weight", kind="Linear", buffer=False, trainable=True):
    value = np.asarray(value)
    kept = (path.rpartition(".")[0], kind, role, path, path)
    return Entry(path, value.shape, str(value.dtype), trainable and not buffer, buffer, *kept)


def drawn(value, side="torch", seed=0, scale=1.0, path="a.b", **of):
    value = np.asarray(value)
    found = ordinary_weights([entry(path, value, **of)], {path: value}, side, seed, scale)
    return found.get(path)


@pytest.mark.parametrize(
    ("value", "of", "low", "high"),
    [
        (np.ones(50), {"role": "weight", "kind": "BatchNorm2d"}, 0.7, 1.3),
        (np.zeros(50), {"role": "weight", "kind": "BatchNorm2d"}, 0.7, 1.3),  # zero_init_last
        (np.zeros(50), {"role": "gamma", "kind": "BatchNormalization"}, 0.7, 1.3),
        (np.full(50, 1e-6), {"role": "scale", "kind": "Net"}, 0.7, 1.3),  # a layer scale, whatever it is called
        (np.full((50, 1, 1), 1e-6), {"role": "layer_scale", "kind": "CNBlock"}, 0.7, 1.3),
        (np.zeros(50), {"role": "bias"}, -0.3, 0.3),
        (np.float64(2.659), {"role": "logit_scale"}, 1.8, 3.5),
        (np.float64(0), {"role": "alpha"}, -0.3, 0.3),  # a gate that starts shut
        (np.ones(50), {"role": "running_var", "buffer": True}, 0.5, 2.0),
        (np.zeros(50), {"role": "moving_mean", "buffer": True}, -0.3, 0.3),
        (np.full(50, 1e-6), {"role": "bias", "trainable": False}, 0.7, 1.3),
    ],
)
def test_what_hides_something_gets_an_ordinary_size(value, of, low, high):
    found = drawn(value, **of)
    assert (found.shape, found.dtype) == (value.shape, value.dtype)
    assert low <= found.min() <= found.max() <= high
    if of["role"] != "running_var":
        assert min(np.abs(found).min(), np.abs(found - 1).min()) >= TINY
    assert np.unique(found).size == found.size


@pytest.mark.parametrize("start", [np.zeros, lambda shape: 1e-4 * np.random.default_rng(1).standard_normal(shape)])
@pytest.mark.parametrize(("side", "shape"), [("torch", (64, 400)), ("keras", (400, 64)), ("torch", (64, 16, 5, 5))])
def test_matrices_that_start_at_next_to_nothing_keep_activations_in_range(start, side, shape):
    found = drawn(start(shape), side)
    kernel = found.reshape(shape[0], -1).T if side == "torch" else found
    made = np.random.default_rng(0).standard_normal((200, 400)) @ kernel
    assert 0.8 < np.std(made) < 1.25
    assert np.std(drawn(start(shape), side, scale=0.5)) == pytest.approx(np.std(found) / 2)


def test_a_matrix_that_is_larger_keeps_its_size():
    value = 3.0 * np.random.default_rng(0).standard_normal((40, 50))
    assert np.std(drawn(value)) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize(
    ("value", "of"),
    [
        (np.arange(6), {"role": "position_ids", "buffer": True}),
        (np.array([True, False]), {"role": "mask", "buffer": True}),
        (np.tri(4), {"role": "mask", "buffer": True}),
        (np.array([1.0, 0.1, 0.01]), {"role": "inv_freq", "buffer": True}),
        (np.tri(4), {"role": "mask", "trainable": False}),
        (np.array([0.0, -np.inf]), {"role": "bias", "trainable": False}),
        (np.zeros((0, 3)), {}),
    ],
)
def test_what_may_be_a_structure_stays_as_it_is(value, of):
    assert drawn(value, **of) is None


def test_zeros_among_other_numbers_stay_and_so_does_the_sign_of_what_has_one():
    table = np.random.default_rng(0).standard_normal((9, 4))
    table[0] = 0.0  # the row of the padding
    found = drawn(table, kind="Embedding")
    assert np.array_equal(found != 0, table != 0)
    decay = np.random.default_rng(0).uniform(0.0, 1.0, 50)
    assert (np.minimum(drawn(decay), -drawn(-decay)) > 0).all()


def test_draws_follow_from_seed_and_path_only():
    value = np.zeros((5, 4))
    alone = drawn(value)
    entries = [entry(path, value) for path in ("x", "a.b")]
    assert np.array_equal(ordinary_weights(entries, {"x": value, "a.b": value}, "torch", 0)["a.b"], alone)
    assert not np.array_equal(drawn(value, seed=1), alone)
    assert not np.array_equal(drawn(value, path="x"), alone)


@pytest.mark.parametrize("size", [1e-8, 1.0])
def test_slots_keep_their_size_and_a_mean_of_squares_stays_above_the_square_of_the_mean(size):
    rng = np.random.default_rng(0)
    mean = size * rng.standard_normal((6, 5))
    slots = {"first_moment": mean, "gradient_mean": mean, "second_moment": mean**2, "second_moment_max": mean**2}
    slots |= {"momentum": -mean, "infinity_norm": abs(mean), "accumulator": mean**2, "average": mean}
    slots |= {"momentum_product": np.float64(0.9), "delta_accumulator": np.zeros((6, 5))}
    weight = rng.standard_normal((6, 5))
    found = ordinary_slots({"w": slots}, {"w": weight}, 0)["w"]
    assert found.keys() == slots.keys()
    assert (found["second_moment"] > np.maximum(found["first_moment"] ** 2, found["gradient_mean"] ** 2)).all()
    assert (found["second_moment_max"] >= found["second_moment"]).all()
    assert (np.minimum(found["infinity_norm"], found["accumulator"]) > 0).all()
    assert found["momentum_product"] == 0.9
    assert not found["delta_accumulator"].any()
    assert np.allclose(found["average"], weight, rtol=0.31, atol=0)
    for role in ("first_moment", "momentum"):
        assert not np.array_equal(found[role], slots[role])
        assert np.std(found[role]) == pytest.approx(size, rel=0.5)
