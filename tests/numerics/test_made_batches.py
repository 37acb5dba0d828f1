"""Made batches stay valid for a model that takes the given ones, and go where these do not."""

import numpy as np
import pytest

from xcheck.numerics.made_batches import Flat, GivenBatches, MadeBatch, kind_of, made_batches

RNG = np.random.default_rng(0)
REAL = RNG.standard_normal((8, 4))
IDS = RNG.integers(1, 11, (8, 6))


def made(inputs, targets=None, **options) -> dict[str, MadeBatch]:
    """The batches made from a single one, by name."""
    given = GivenBatches.of([Flat({"x": inputs} if isinstance(inputs, np.ndarray) else inputs, targets or {})])
    return {m.name: m for m in made_batches(given, **options)}


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (REAL, "real"),
        (np.abs(REAL) + 1, "positive"),
        (RNG.random((8, 4)), "shares"),
        (np.full((8, 4), 0.25), "rows"),
        (np.eye(4), "rows"),
        (IDS, "whole"),
        (IDS.astype(float), "whole"),
        (IDS > 5, "mask"),
        (np.ones((8, 6), int), "mask"),
        (np.zeros((8, 6)), "fixed"),
        (np.array([[1.0, np.nan]]), "fixed"),
    ],
)
def test_what_numbers_may_stand_for(numbers, kind):
    assert kind_of([numbers]) == kind


def test_ones_are_weights_by_their_name_and_only_as_floats():
    assert kind_of([np.ones(8)], "sample_weight") == "weights"
    assert kind_of([np.ones(8)], "scale") == "mask"
    assert kind_of([np.ones(8, int)], "weight") == "mask"
    assert kind_of([np.ones(8), np.full(8, 0.5)], "weight") == "shares"


def test_every_batch_decides_what_is_valid_and_not_the_last_alone():
    assert kind_of([REAL, np.abs(REAL)]) == "real"
    assert kind_of([np.ones((2, 2), int), np.full((2, 2), 3)]) == "whole"


def test_real_numbers_are_scaled_and_shifted_and_the_dtype_stays():
    found = made(REAL.astype(np.float32))
    assert np.allclose(found["times 20"].batch.inputs["x"], 20 * REAL)
    assert np.allclose(found["times 0.01"].batch.inputs["x"], REAL / 100)
    assert {m.batch.inputs["x"].dtype for m in found.values()} == {np.dtype(np.float32)}
    assert np.array_equal(found["cut to one example"].batch.inputs["x"], REAL[:1].astype(np.float32))
    assert len(found["cut to 5 of its 8 examples"].batch.inputs["x"]) == 5


@pytest.mark.parametrize("numbers", [RNG.random((8, 4)), np.abs(REAL) + 1, IDS, IDS > 5, np.eye(8)])
def test_numbers_stay_in_their_range(numbers):
    for m in made(numbers, beyond=False).values():
        x = m.batch.inputs["x"]
        assert x.min() >= 0
        assert x.dtype == numbers.dtype
        if kind_of([numbers]) in ("shares", "whole", "mask", "rows"):
            assert x.max() <= numbers.max()
        if kind_of([numbers]) in ("whole", "mask", "rows"):
            assert {*x.ravel().tolist()} <= {*numbers.ravel().tolist()}
        if kind_of([numbers]) == "rows":
            assert (x.sum(-1) == 1).all()


def test_larger_whole_numbers_are_made_only_where_they_may_be():
    assert "with its integers times 1000" not in made(IDS)
    assert made(IDS, beyond=True)["with its integers times 1000"].batch.inputs["x"].max() == 1000 * IDS.max()
    assert "with its integers times 1000" not in made(IDS.astype(np.uint8), beyond=True)


def test_labels_of_every_class_are_from_zero_to_the_largest_seen():
    found = made(REAL, {"y": np.array([1, 2, 3, 1, 2, 3, 1, -100])})["with labels of every class"]
    assert found.batch.targets["y"].tolist() == [0, 1, 2, 3, 0, 1, 2, -100]
    assert "with labels of every class" not in made(REAL, {"y": np.arange(8) % 3})
    one_hot = np.eye(4)[[1, 1, 2, 2, 3, 3, 1, 1]]
    found = made(REAL, {"y": one_hot})["with labels of every class"]
    assert found.batch.targets["y"].argmax(1).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_an_ignored_label_is_used_only_where_a_loss_names_one():
    labels = {"y": np.arange(8) % 3}
    assert not any("leaves out" in name for name in made(REAL, labels))
    found = made(REAL, labels, ignored=7)["with the label 7, which a loss ignores"]
    assert found.batch.targets["y"].tolist() == [0, 7, 2, 0, 7, 2, 0, 7]


def test_images_change_both_sizes_and_not_their_channels_and_what_lies_on_their_pixels_follows():
    images, pixels = RNG.standard_normal((2, 7, 9, 3)), RNG.integers(0, 4, (2, 7, 9))
    found = made(images, {"y": pixels})
    shorter, longer = (
        found["with axes of length 7 and 9 shortened by 1"].batch,
        found["with axes of length 7 and 9 extended by 1"].batch,
    )
    assert (shorter.inputs["x"].shape, shorter.targets["y"].shape) == ((2, 6, 8, 3), (2, 6, 8))
    assert (longer.inputs["x"].shape, longer.targets["y"].shape) == ((2, 8, 10, 3), (2, 8, 10))
    first = made(np.moveaxis(images, -1, 1))["with axes of length 7 and 9 shortened by 1"].batch
    assert first.inputs["x"].shape == (2, 3, 6, 8)


def test_features_are_no_sequence():
    assert not any("sizes" in name for name in made(REAL, {"y": RNG.standard_normal((8, 4))}))
    assert "with axes of length 6 shortened by 1" in made(IDS)


def test_sample_weights_of_one_become_uneven():
    found = made({"x": REAL, "weight": np.ones(8)})["with sample weights of 0.5, 1.5, 0 and 2"]
    assert found.batch.inputs["weight"].tolist() == [0.5, 1.5, 0, 2] * 2
    assert np.array_equal(found.batch.inputs["x"], REAL)


def test_a_batch_with_other_weights_has_the_given_numbers():
    found = made(IDS)
    heavy, ties = found["with weights times 4"], found["with some weights set to 0, which makes equal numbers"]
    assert np.array_equal(heavy.batch.inputs["x"], IDS)
    weight = np.ones((3, 2))
    assert heavy.weights(weight, "torch").tolist() == (4 * weight).tolist()
    assert ties.weights(weight, "torch").tolist() == [[0, 0], [1, 1], [1, 1]]
    assert ties.weights(weight, "keras").tolist() == [[0, 1]] * 3
    assert ties.weights(np.ones(3), "keras").tolist() == [1, 1, 1]


def test_nothing_is_made_that_is_the_given_batch():
    given = GivenBatches.of([Flat({"x": np.ones((1, 2), int)})])
    for m in made_batches(given):
        assert m.weights is not None or not np.array_equal(m.batch.inputs["x"], given.last.inputs["x"])


def test_by_default_nothing_is_made_whose_validity_is_a_guess():
    """No length, label, id or padded row that the given batches do not have: the blank of CTC is such a label."""
    inputs = {"x": RNG.standard_normal((8, 7, 4)), "ids": IDS}
    found = made(inputs, {"y": np.array([1, 2, 3, 1, 2, 3, 1, 2])}, ignored=9, beyond=True)
    names = ("labels", "label 9", "shortened", "largest integer", "rows sorted")
    asked = {name: m.usual for name, m in found.items() if any(part in name for part in names)}
    assert len(asked) >= len(names)
    assert not any(asked.values())
    assert found["times 20"].usual
