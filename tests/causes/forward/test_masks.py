"""Masks and lengths that reach one side alone, and layers that run over the examples: named, on either side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import xcheck
from xcheck.causes.forward.masks import MASK, fitting, masks_in, shown_mask
from xcheck.records.calls import Call

WORDS, SIZE, UNITS, STEPS, LENGTHS = 20, 6, 5, 4, (4, 3, 2)


class Net(torch.nn.Module):
    """An embedding, something in between, and a linear layer."""

    def __init__(self, middle: Any, between: Callable[[Any, Any, Any], Any], units: int) -> None:
        super().__init__()
        self.emb, self.middle, self.head = torch.nn.Embedding(WORDS, SIZE), middle, torch.nn.Linear(units, 3)
        self.between = between
        for name, parameter in self.named_parameters():
            if "bias_hh" in name:  # which an LSTM of Keras does not have
                parameter.requires_grad_(False)

    def forward(self, ids: Any) -> Any:
        return self.head(self.between(self.middle, self.emb(ids), ids))


def lstm(**options: Any) -> Any:
    return torch.nn.LSTM(SIZE, UNITS, **{"batch_first": True, **options})


def nothing() -> Any:
    return torch.nn.Identity()


def packed(x: Any, ids: Any) -> Any:
    return pack_padded_sequence(x, (ids != 0).sum(1).cpu(), batch_first=True, enforce_sorted=False)


def every(layer: Any, x: Any, ids: Any) -> Any:
    return layer(x)[0]


def last(layer: Any, x: Any, ids: Any) -> Any:
    return layer(x)[0][:, -1]


def packed_every(layer: Any, x: Any, ids: Any) -> Any:
    return pad_packed_sequence(layer(packed(x, ids))[0], batch_first=True, total_length=STEPS)[0]


def packed_last(layer: Any, x: Any, ids: Any) -> Any:
    return layer(packed(x, ids))[1][0][-1]


def mean(layer: Any, x: Any, ids: Any) -> Any:
    return torch.tanh(x).mean(1)


def masked_mean(layer: Any, x: Any, ids: Any) -> Any:
    kept = (ids != 0)[..., None]
    return (torch.tanh(x) * kept).sum(1) / kept.sum(1)


def masked_max(layer: Any, x: Any, ids: Any) -> Any:
    return torch.tanh(x).masked_fill((ids == 0)[..., None], -1e9).amax(1)


def swapped(x: Any) -> Any:
    return keras.ops.swapaxes(x, 0, 1)


def attended(layer: Any, x: Any, ids: Any) -> Any:
    return layer(x, x, x)[0]


def pair_of(
    torch_layer: Callable[[], Any],
    between: Callable[[Any, Any, Any], Any],
    keras_part: Callable[[Any], Any],
    *,
    masked: bool = False,
    units: int = UNITS,
) -> xcheck.Pair:
    """A small tagger or classifier of both frameworks; `masked`: the Keras embedding makes a mask."""

    def build_keras() -> Any:
        ids = keras.Input((STEPS,), dtype="int32")
        x = layers.Embedding(WORDS, SIZE, mask_zero=masked)(ids)
        return keras.Model(ids, layers.Dense(3)(keras_part(x)))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            ids = rng.integers(1, WORDS, (len(LENGTHS), STEPS))
            for row, length in enumerate(LENGTHS):
                ids[row, length:] = 0
            yield xcheck.Batch(ids)

    def build_torch() -> Any:
        return Net(torch_layer(), between, units)

    return xcheck.Pair("masks", xcheck.TorchSide(build_torch), xcheck.KerasSide(build_keras), batches)


def causes_of(pair: xcheck.Pair) -> list[xcheck.Cause]:
    phases = ("inventory", "sync", "forward")
    result = xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)
    assert result.verdict == "DIFFERENT"
    return list(result.causes)


def keras_lstm(**options: Any) -> Any:
    return layers.LSTM(UNITS, **options)


def steps(**options: Any) -> Any:
    return keras_lstm(return_sequences=True, **options)


def both_ways(x: Any) -> Any:
    return layers.Bidirectional(steps())(x)


def pooled(x: Any) -> Any:
    return layers.GlobalAveragePooling1D()(layers.Activation("tanh")(x))


def largest(x: Any) -> Any:
    return layers.GlobalMaxPooling1D()(layers.Activation("tanh")(x))


def attention(x: Any) -> Any:
    return layers.MultiHeadAttention(2, SIZE // 2)(x, x)


EVERY_TORCH, EVERY_KERAS = "all positions in torch", "all positions in keras"
MASK_CASES: dict[str, tuple[xcheck.Pair, str]] = {
    "lengths in torch, the last state": (
        pair_of(lstm, packed_last, lambda x: keras_lstm()(x)),
        EVERY_KERAS,
    ),
    "lengths in torch, every step": (pair_of(lstm, packed_every, lambda x: steps()(x)), EVERY_KERAS),
    "a mask in keras": (pair_of(lstm, last, lambda x: keras_lstm()(x), masked=True), EVERY_TORCH),
    "a mean in torch": (pair_of(nothing, masked_mean, pooled, units=SIZE), EVERY_KERAS),
    "a maximum in torch": (pair_of(nothing, masked_max, largest, units=SIZE), EVERY_KERAS),
}


@pytest.mark.parametrize("name", MASK_CASES)
def test_a_mask_of_one_side(name: str) -> None:
    pair, words = MASK_CASES[name]
    (cause,) = causes_of(pair)
    assert (cause.id, cause.confirmed) == ("mask_of_one_side", True)
    assert words in cause.summary
    assert "9 of 12" in cause.summary


def test_another_function_besides_a_mask_is_a_cause_of_its_own() -> None:
    found = causes_of(pair_of(lstm, packed_last, lambda x: keras_lstm(activation="relu")(x)))
    assert {(c.id, c.confirmed) for c in found} == {("mask_of_one_side", True), ("activation", True)}


def test_a_mask_of_both_sides_is_no_cause() -> None:
    (cause,) = causes_of(pair_of(lstm, packed_last, lambda x: keras_lstm(activation="relu")(x), masked=True))
    assert cause.id == "activation"


def test_a_mean_that_is_too_small_is_no_mask() -> None:
    pair = pair_of(nothing, mean, lambda x: keras.layers.Rescaling(0.8)(pooled(x)), units=SIZE)
    assert not any(cause.id == "mask_of_one_side" for cause in causes_of(pair))


def test_what_comes_out_past_the_end() -> None:
    (cause,) = causes_of(pair_of(lstm, packed_every, lambda x: steps()(x), masked=True))
    assert (cause.id, cause.confirmed) == ("past_the_end", True)
    assert "zero in torch and the last state in keras" in cause.summary


AXES: dict[str, tuple[xcheck.Pair, str]] = {
    "batch_first forgotten": (
        pair_of(lambda: lstm(batch_first=False), every, lambda x: steps()(x)),
        "that of the examples in torch",
    ),
    "batch_first forgotten, both directions": (
        pair_of(lambda: lstm(batch_first=False, bidirectional=True), every, both_ways, units=2 * UNITS),
        "that of the examples in torch",
    ),
    "batch_first forgotten by attention": (
        pair_of(lambda: torch.nn.MultiheadAttention(SIZE, 2), attended, attention, units=SIZE),
        "that of the examples in torch",
    ),
    "exchanged in keras": (
        pair_of(lstm, every, lambda x: swapped(steps()(swapped(x)))),
        "that of the steps in torch and that of the examples in keras",
    ),
}


@pytest.mark.parametrize("name", AXES)
def test_axes_that_are_taken_for_each_other(name: str) -> None:
    pair, words = AXES[name]
    (cause,) = causes_of(pair)
    assert (cause.id, cause.confirmed) == ("exchanged_axes", True)
    assert words in cause.summary


def test_steps_first_on_both_sides_is_no_cause() -> None:
    pair = pair_of(
        lambda: lstm(batch_first=False),
        lambda layer, x, ids: layer(x.transpose(0, 1))[0].transpose(0, 1),
        lambda x: steps(activation="relu")(x),
    )
    assert [c.id for c in causes_of(pair)] == ["activation"]


def call(name: str, array: Any) -> Call:
    return Call(0, None, name, "Layer", 1, {}, {"output": np.asarray(array)})


def test_what_may_be_a_mask() -> None:
    truth, lengths = np.array([[True, True, False], [True, False, False]]), np.array([2, 1])
    found = masks_in(
        [call("m", truth), call("n", lengths), call("x", np.ones((2, 3)) * 0.5), call("all", truth | True)]
    )
    assert list(found) == ["m", "n"]
    of_steps = fitting(found, (2, 3, 4))
    assert list(of_steps) == [f"{MASK}m, 3 of 6", f"{MASK}m (inverted), 3 of 6"]  # the lengths are the mask
    assert fitting(found, (3, 2, 4)) == {}
    assert shown_mask(next(iter(of_steps))) == "those that m, 3 of 6, lets through"
