"""What `prepare` casts to float32 stays exact in a float64 run, and what cannot is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xcheck
from xcheck.frameworks.numpy_precision import prepared_in_float64
from xcheck.pairs.batches import batches_of, in_float32
from xcheck.pairs.pair import Batch
from xcheck.records.islands import Islands
from xcheck.records.result import Verdict

MEAN = np.array([0.485, 0.456, 0.406, 0.3], np.float32)
SPREAD = np.array([0.229, 0.224, 0.225, 0.2], np.float32)


def torch_model() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def keras_model() -> Any:
    from keras import Input, Sequential, layers

    return Sequential([Input((4,)), layers.Dense(3, activation="tanh"), layers.Dense(2)])


def normal(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((5, 4)))


def pixels(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.integers(0, 256, (5, 4)).astype(np.uint8))


def in_torch(batch: Batch) -> Any:
    import torch

    inputs: Any = batch.inputs
    return torch.from_numpy(np.array(inputs)).float() / 3, None


def in_tensorflow(batch: Batch) -> Any:
    import tensorflow as tf

    cast: Any = tf.cast
    return cast(batch.inputs, tf.float32) / 3, None


def by_numpy(of: Callable[[Any], Any]) -> Callable[[Batch], Any]:
    return lambda batch: (of(batch.inputs), None)


PREPARED = {
    "divided": (pixels, by_numpy(lambda x: x.astype("float32") / 255), by_numpy(lambda x: x / 255)),
    "around zero": (
        pixels,
        by_numpy(lambda x: np.asarray(x, np.float32) / 127.5 - 1),
        by_numpy(lambda x: x / 127.5 - 1),
    ),
    "filled in": (normal, by_numpy(lambda x: np.add(np.zeros(x.shape, "f4"), x) * 0.1), by_numpy(lambda x: x * 0.1)),
    "a scalar": (pixels, by_numpy(lambda x: x * np.float32(0.25) / 3), by_numpy(lambda x: x * 0.25 / 3)),
    "tensors": (normal, in_torch, in_tensorflow),
    "one side": (normal, in_torch, by_numpy(lambda x: x / 3)),
}


def check(batches: Any, torch: Any, keras: Any, **options: Any) -> xcheck.Result:
    sides = xcheck.TorchSide(torch_model, prepare=torch), xcheck.KerasSide(keras_model, prepare=keras)
    pair = xcheck.Pair("prepared", *sides, batches)
    return xcheck.check(pair, **{"steps": 1, "precision": ("float64",), "free_steps": 0, **options})


@pytest.mark.parametrize("name", PREPARED)
def test_what_is_prepared_in_float32_is_exact_in_float64(name: str) -> None:
    result = check(*PREPARED[name])
    assert result.verdict is Verdict.EQUIVALENT
    assert not result.causes


def test_constants_that_float32_has_rounded_before_explain_what_they_do() -> None:
    result = check(
        pixels,
        by_numpy(lambda x: (x / 255 - MEAN) / SPREAD),
        by_numpy(lambda x: (x / 255 - np.array([0.485, 0.456, 0.406, 0.3])) / np.array([0.229, 0.224, 0.225, 0.2])),
    )
    assert result.verdict is Verdict.EQUIVALENT
    assert [cause.id for cause in result.causes] == ["float32_constant"]
    assert "prepare" in str(result.causes[0].torch)


def test_a_difference_that_float32_hardly_sees_is_not_taken_for_its_rounding() -> None:
    result = check(pixels, by_numpy(lambda x: x.astype("float32") / 255), by_numpy(lambda x: x / 255.0001))
    assert result.verdict is Verdict.DIFFERENT
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "forward"


def test_batches_hold_numbers_of_float32_in_their_own_dtype() -> None:
    pair = xcheck.Pair("batches", xcheck.TorchSide(torch_model), xcheck.KerasSide(keras_model), normal)
    first: Any = next(batches_of(pair, 0, 1)).inputs
    as_given: Any = next(normal(0)).inputs
    assert first.dtype == np.float64
    assert np.array_equal(first, first.astype(np.float32))
    assert not np.array_equal(first, as_given)
    out_of_range = np.array([1e300, 1e-300, 0.0, np.inf, -1e39])
    assert np.array_equal(in_float32(out_of_range), out_of_range)
    ids = np.array([2**40 + 1])
    assert in_float32({"ids": ids})["ids"] is ids


def test_numpy_is_itself_again_after_prepare_and_reads_bytes_as_they_are() -> None:
    islands = Islands(lambda _: None)
    before = np.zeros, np.asarray

    def prepare(batch: Batch) -> Any:
        held = np.frombuffer(np.array([1.0, 2.0]).tobytes(), "<f8")
        return np.frombuffer(b"\0\0\x80?" * 2, np.float32), held

    made = prepared_in_float64(prepare, Batch(np.ones((2, 1))), islands)
    assert [list(a) for a in made] == [[1, 1], [1, 2]]
    assert (np.zeros, np.asarray) == before
    assert all(type(a) is np.ndarray and a.dtype == np.float64 for a in made)

    def fails(batch: Batch) -> Any:
        raise ValueError(batch.size)

    with pytest.raises(ValueError, match="2"):
        prepared_in_float64(fails, Batch(np.ones((2, 1))), islands)
    assert (np.zeros, np.asarray) == before
