"""Batches belong to xcheck: plain arrays, which nobody shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xcheck
from xcheck.errors import BatchError
from xcheck.frameworks.protocol import prepared
from xcheck.records.plain_arrays import owned

X = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    "given", [X.view(np.recarray), X.astype(">f8"), X.astype(np.longdouble), np.asfortranarray(X), X[::-1][::-1]]
)
def test_an_array_of_any_kind_becomes_a_plain_one_with_the_same_numbers(given: Any) -> None:
    made = owned(given)
    assert type(made) is np.ndarray
    assert (made.dtype, made.dtype.isnative, made.flags.c_contiguous) == (np.dtype(np.float64), True, True)
    assert np.array_equal(made, X)
    assert not np.shares_memory(made, given)


def test_integers_and_containers_keep_what_they_are() -> None:
    made = owned({"a": np.arange(3, dtype=">i4"), "b": (X > 1, None)})
    assert (made["a"].dtype, made["b"][0].dtype, made["b"][1]) == (np.dtype(np.int32), np.dtype(bool), None)


def test_whoever_made_a_batch_may_use_the_array_again() -> None:
    x = X.copy()
    batch = xcheck.Batch({"x": x}, x)
    x[:] = 0
    assert np.array_equal(batch.inputs["x"], X)
    assert np.array_equal(batch.targets, X)


def test_a_masked_array_is_refused_and_one_without_masked_elements_is_not() -> None:
    with pytest.raises(BatchError, match="masked"):
        xcheck.Batch(np.ma.masked_less(X, 3))
    assert type(xcheck.Batch(np.ma.masked_less(X, -1)).inputs) is np.ndarray


def test_what_prepare_changes_in_place_reaches_nobody() -> None:
    def prepare(batch: xcheck.Batch) -> Any:
        batch.inputs[...] -= 1.0
        return batch.inputs, batch.targets

    batch = xcheck.Batch(X)
    for _ in range(2):
        assert np.array_equal(prepared(prepare, batch, "torch").inputs, X - 1)
    assert np.array_equal(batch.inputs, X)
    prepared(None, batch, "keras").inputs[...] = 7
    assert np.array_equal(batch.inputs, X)


def in_place(batch: xcheck.Batch) -> Any:
    batch.inputs[...] /= 3.0
    return batch.inputs, batch.targets


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((4, 3)))


@pytest.mark.parametrize(("sides", "verdict"), [("torch keras", "EQUIVALENT"), ("torch", "DIFFERENT")])
def test_sides_that_prepare_in_place_are_what_they_are_alone(sides: str, verdict: str) -> None:
    def torch_net() -> Any:
        from torch import nn

        return nn.Linear(3, 2)

    def keras_net() -> Any:
        import keras

        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    prepare = dict.fromkeys(sides.split(), in_place)
    pair = xcheck.Pair(
        "in_place",
        xcheck.TorchSide(torch_net, prepare=prepare.get("torch")),
        xcheck.KerasSide(keras_net, prepare=prepare.get("keras")),
        batches,
        weight_map={"weight": "sequential/dense/kernel", "bias": "sequential/dense/bias"},
    )
    assert xcheck.check(pair, steps=1, precision=("float64",), free_steps=0).verdict == verdict
