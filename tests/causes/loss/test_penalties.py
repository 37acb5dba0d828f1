"""Penalties that are one number: which weights they are of is read off the gradients, and nothing else is said."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from ports import keras_mlp, mlp, torch_sgd
from setups import run


def squares(model: Any, factor: float = 0.01) -> Any:
    return factor * model[0].weight.square().sum()


def adds_to_its_loss(**_: Any) -> Any:
    net = keras_mlp()
    net.get_layer("hidden").activity_regularizer = keras.regularizers.L2(0.01)
    return net


L2 = keras.regularizers.L2(0.01)
CASES: dict[str, tuple[Any, Any, str, str]] = {
    "half of it": (
        {"penalty": lambda model: squares(model, 0.005)},
        lambda: keras_mlp(kernel_regularizer=L2),
        "penalty_factor",
        "0.005 times the sum of the squares in torch and 0.01",
    ),
    "in torch alone": ({"penalty": squares}, keras_mlp, "penalty_missing", "and nothing in keras"),
    "a decay for it": (
        {"optimizer": lambda p: torch_sgd(p, weight_decay=0.01)},
        lambda: keras_mlp(kernel_regularizer=L2),
        "penalty_missing",
        "its gradient is 0.02 times the weight, weight_decay=0.01",
    ),
    "another norm": (
        {"penalty": squares},
        lambda: keras_mlp(kernel_regularizer=keras.regularizers.L1(0.01)),
        "penalty_norm",
        "absolute values in keras",
    ),
    "what the layer computes": ({}, adds_to_its_loss, "extra_loss_term", "the torch side adds nothing"),
}


@pytest.mark.parametrize("name", CASES)
def test_which_penalty_differs(name: str) -> None:
    parts, build, expected, words = CASES[name]
    result = run(mlp(torch=parts, keras={"build": build}))
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "loss"
    assert [(c.id, c.confirmed) for c in result.causes] == [(expected, True)], result.report()
    assert words in result.causes[0].summary


def test_a_penalty_of_no_known_norm_is_not_proven() -> None:
    result = run(mlp(torch={"penalty": lambda model: squares(model) + 0.01 * model[2].weight.pow(4).sum()}))
    assert [c.id for c in result.causes if c.confirmed and c.phase == "loss"] == []
