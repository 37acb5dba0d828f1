"""Causes of layers that are several operations: attention, recurrent layers, resizing; each named where it is right."""

from __future__ import annotations

from typing import Any

import pytest
from layer_cases import IMAGE, SEQUENCE, Case, as_module, looked_into, pair_of
from recurrent_cases import last_of


def scaled_attention(torch: Any, **options: Any) -> Any:
    return as_module(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x.cos(), x.sin(), **options))


def keras_attention(keras: Any, x: Any, scale: float = 8**-0.5) -> Any:
    from keras import ops

    scores = ops.matmul(x, ops.transpose(ops.cos(x), (0, 2, 1))) * scale
    return ops.matmul(ops.softmax(scores, axis=-1), ops.sin(x))


RECURRENT = {"layer.weight_ih_l0": "lstm_cell/kernel", "layer.weight_hh_l0": "lstm_cell/recurrent_kernel"}
LSTM_BIAS = {"layer.bias_ih_l0 + 0.layer.bias_hh_l0": "lstm_cell/bias"}
CASES: dict[str, Case] = {
    "aligned corners": Case(
        "resize_coordinates",
        lambda t: t.nn.Upsample(size=(9, 9), mode="bilinear", align_corners=True),
        lambda k, x: k.layers.Resizing(9, 9, name="layer")(x),
        IMAGE,
        ("corners aligned in torch and half pixel in keras",),
    ),
    "the nearest of an old convention": Case(
        "resize_coordinates",
        lambda t: t.nn.Upsample(size=(5, 5), mode="nearest"),
        lambda k, x: k.layers.Resizing(5, 5, interpolation="nearest", name="layer")(x),
        IMAGE,
        ("asymmetric in torch and half pixel in keras",),
    ),
    "antialiasing": Case(
        "antialias",
        lambda t: t.nn.Upsample(size=(3, 3), mode="bilinear"),
        lambda k, x: k.ops.image.resize(x, (3, 3), antialias=True),
        IMAGE,
        ("False in torch and True in keras",),
    ),
    "nearest for linear": Case(
        "interpolation",
        lambda t: t.nn.Upsample(size=(14, 12), mode="bilinear"),
        lambda k, x: k.layers.UpSampling2D(2, name="layer")(x),
        IMAGE,
        ("linear in torch and nearest in keras",),
    ),
    "the scale of attention": Case(
        "attention_scale",
        scaled_attention,
        lambda k, x: keras_attention(k, x, scale=1.0),
        SEQUENCE,
        ("0.353553", "1.0 in keras"),
    ),
    "a causal mask on one side": Case(
        "causal_mask",
        lambda t: scaled_attention(t, is_causal=True),
        keras_attention,
        SEQUENCE,
        ("True in torch and False in keras",),
    ),
    "the function of the gates": Case(
        "recurrent_activation",
        lambda t: last_of(t, t.nn.LSTM(8, 5, batch_first=True), lambda y: y),
        lambda k, x: k.layers.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid", name="layer")(x),
        SEQUENCE,
        ("'sigmoid' in torch and 'hard_sigmoid",),
        RECURRENT | LSTM_BIAS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_cause_is_named_and_proven(name):
    case = CASES[name]
    result = looked_into(pair_of(case))
    assert result.first_divergence is not None, result.report()
    assert [(c.id, c.confirmed) for c in result.causes] == [(case.cause, True)], result.report()
    (cause,) = result.causes
    for words in case.words:
        assert words in cause.summary
    assert cause.evidence.get("after", 0.0) <= cause.evidence["allowed"] < 1e-11
    assert cause.fix


@pytest.mark.parametrize("name", CASES)
def test_no_cause_is_confirmed_where_something_else_is_wrong_too(name):
    result = looked_into(pair_of(CASES[name], spoilt=True))
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == []
