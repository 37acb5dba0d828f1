"""Rows are padded as the given batches pad them, and what these link stays linked."""

import numpy as np

from xcheck.numerics.made_batches import Flat, GivenBatches
from xcheck.numerics.padded_rows import padded_batches

RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 11, (4, 6))
PREFIX = np.array([[1] * n + [0] * (6 - n) for n in (6, 3, 4, 2)])


def padded(inputs, targets=None, compare=None):
    """The padded batches made from a single one, by name."""
    return {m.name: m for m in padded_batches(GivenBatches.of([Flat(inputs, targets or {}, compare or {})]))}


def test_a_mask_of_ones_gets_rows_of_several_lengths_one_whole_and_none_empty():
    (made,) = padded({"mask": np.ones((4, 6), int)}).values()
    mask = made.batch.inputs["mask"]
    assert made.name == "with padded rows"
    assert mask[0].all()
    assert mask.any(1).all()
    assert not mask.all()
    assert (np.diff(mask, axis=1) <= 0).all()  # padding is at the end
    assert np.array_equal(made.mask, mask.astype(bool))


def test_padding_is_first_where_the_given_masks_put_it_first():
    mask = padded({"mask": PREFIX[:, ::-1]})["with padded rows"].batch.inputs["mask"]
    assert (np.diff(mask, axis=1) >= 0).all()
    assert not mask.all()


def test_gaps_are_made_only_where_a_given_mask_has_some():
    assert {*padded({"mask": PREFIX})} == {"with padded rows"}
    found = padded({"mask": np.array([[1, 0, 1, 1, 0, 1]] * 4)})["with gaps in its masks"]
    assert found.batch.inputs["mask"][0].tolist() == [1, 0, 1, 0, 1, 0]


def test_ids_without_a_mask_end_in_zeros_unless_zero_is_an_id():
    (made,) = padded({"ids": IDS}).values()
    ids = made.batch.inputs["ids"]
    assert made.name == "with rows padded with 0"
    assert np.array_equal(ids == 0, ~made.mask)
    assert np.array_equal(ids[made.mask], IDS[made.mask])
    (made,) = padded({"ids": IDS - 1}).values()
    assert np.array_equal(made.batch.inputs["ids"], IDS - 1)


def test_the_id_of_masked_positions_stays_that_of_masked_positions():
    ids = np.where(PREFIX == 1, IDS + 1, 1)  # 1 is padding
    made = padded({"ids": ids, "mask": PREFIX})["with padded rows"].batch.inputs
    assert np.array_equal(made["ids"] == 1, made["mask"] == 0)


def test_ids_that_do_not_depend_on_the_mask_stay_as_they_are():
    made = padded({"ids": IDS, "mask": PREFIX})["with padded rows"].batch.inputs
    assert np.array_equal(made["ids"], IDS)


def test_lengths_and_left_out_labels_follow_the_mask():
    labels = np.where(PREFIX == 1, IDS, -100)
    made = padded({"mask": PREFIX, "lengths": PREFIX.sum(1)}, {"y": labels}, {"output": PREFIX > 0})["with padded rows"]
    mask = made.batch.inputs["mask"]
    assert np.array_equal(made.batch.inputs["lengths"], mask.sum(1))
    assert np.array_equal(made.batch.targets["y"] == -100, mask == 0)
    assert np.array_equal(made.batch.compare["output"], (PREFIX > 0) & (mask > 0))


def test_features_and_single_columns_are_not_rows():
    assert padded({"x": RNG.standard_normal((4, 6))}) == {}
    assert padded({"n": IDS[:, :1]}) == {}
