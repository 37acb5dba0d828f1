"""Recurrent layers on top of each other, and in both directions: the one that differs is named, and in what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from layer_cases import SEQUENCE, Case, looked_into, pair_of
from recurrent_cases import last_of

import xcheck

ROLES = (("weight_ih", "kernel"), ("weight_hh", "recurrent_kernel"))


def weights(**layers: str) -> dict[str, str]:
    """End of the names in torch -> path of the Keras cell."""
    found: dict[str, str] = {}
    for end, cell in layers.items():
        found |= {f"0.layer.{mine}_{end}": f"{cell}/{theirs}" for mine, theirs in ROLES}
        found[f"0.layer.bias_ih_{end} + 0.layer.bias_hh_{end}"] = f"{cell}/bias"
    return found


def stacked(gates: tuple[str, str], steps: bool = True) -> Any:
    def build(k: Any, x: Any) -> Any:
        first = k.layers.LSTM(5, return_sequences=True, recurrent_activation=gates[0], name="one")
        return k.layers.LSTM(5, return_sequences=steps, recurrent_activation=gates[1], name="two")(first(x))

    return build


STACK = weights(l0="one/lstm_cell", l1="two/lstm_cell")
WAYS = weights(l0="layer/forward_layer/lstm_cell", l0_reverse="layer/backward_layer/lstm_cell")
Planted = tuple[Case, dict[str, str], str]
CASES: dict[str, Planted] = {
    "the gates of the first layer": (
        Case(
            "recurrent_activation",
            lambda t: last_of(t, t.nn.LSTM(8, 5, num_layers=2, batch_first=True), lambda y: y),
            stacked(("hard_sigmoid", "sigmoid")),
            words=("of layer 1 of the stack is 'sigmoid' in torch",),
        ),
        STACK,
        "one",
    ),
    "the gates of the second layer": (
        Case(
            "recurrent_activation",
            lambda t: last_of(t, t.nn.LSTM(8, 5, num_layers=2, batch_first=True), lambda y: y[:, -1]),
            stacked(("sigmoid", "hard_sigmoid"), steps=False),
            words=("of layer 2 of the stack is 'sigmoid' in torch",),
        ),
        STACK,
        "two",
    ),
    "the last step for the end of each direction": (
        Case(
            "last_step",
            lambda t: last_of(t, t.nn.LSTM(8, 5, bidirectional=True, batch_first=True), lambda y: y[:, -1]),
            lambda k, x: k.layers.Bidirectional(k.layers.LSTM(5, name="layer"), name="layer")(x),
            words=("the last step in torch and the end of each direction in keras",),
        ),
        WAYS,
        "layer",
    ),
}


def looked(name: str, spoilt: bool = False) -> xcheck.Result:
    case, weight_map, _ = CASES[name]
    return looked_into(replace(pair_of(replace(case, shape=SEQUENCE), spoilt), weight_map=weight_map))


@pytest.mark.parametrize("name", CASES)
def test_the_layer_and_its_setting_are_named(name: str) -> None:
    case, _, keras = CASES[name]
    result = looked(name)
    assert [(c.id, c.confirmed) for c in result.causes] == [(case.cause, True)], result.report()
    assert result.first_divergence is not None
    assert (result.causes[0].keras, result.first_divergence.keras) == (keras, keras)
    assert case.words[0] in result.causes[0].summary


def test_none_is_named_where_something_else_is_wrong_too() -> None:
    assert [c for c in looked("the gates of the first layer", spoilt=True).causes if c.confirmed] == []
