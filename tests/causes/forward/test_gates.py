"""Whole recurrent layers whose weights were carried over with their gates in a different order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from layer_cases import Case, looked_into, pair_of
from recurrent_cases import last_of

import xcheck

ROLES = (("weight_ih", "kernel"), ("weight_hh", "recurrent_kernel"))

SHORT = (2, 3, 4)

TWISTED = ("(g h) i -> i (g@0213 h)", "(g h) -> (g@0213 h)")
"""The forget gate and the candidate exchanged, in kernels and in biases."""

RIGHT = ("transpose", "identity")


def lstm(layers: dict[str, str], *layouts: tuple[str, str]) -> dict[str, Any]:
    """The weight map of LSTM layers.

    Args:
        layers: end of the names in torch -> path of the Keras cell.
        layouts: of the kernels and of the bias of each.
    """
    found: dict[str, Any] = {}
    for (end, cell), (kernel, bias) in zip(layers.items(), layouts, strict=True):
        found |= {f"0.layer.{mine}_{end}": (f"{cell}/{theirs}", kernel) for mine, theirs in ROLES}
        found[f"0.layer.bias_ih_{end} + 0.layer.bias_hh_{end}"] = (f"{cell}/bias", bias)
    return found


def gru(kernel: str, bias: str) -> dict[str, Any]:
    cell = "layer/gru_cell"
    found: dict[str, Any] = {f"0.layer.{mine}_l0": (f"{cell}/{theirs}", kernel) for mine, theirs in ROLES}
    return found | {f"0.layer.bias_{w}_l0": (f"{cell}/bias[{i}]", bias) for i, w in enumerate(("ih", "hh"))}


def whole(kind: str, keras: Any = None, **options: Any) -> Case:
    def build(k: Any, x: Any) -> Any:
        layer = getattr(k.layers, kind)(3, return_sequences=True, name="layer", **options)
        return (keras(k, layer) if keras else layer)(x)

    two = {"bidirectional": True} if keras else {}
    return Case(
        "gate_order", lambda t: last_of(t, getattr(t.nn, kind)(4, 3, batch_first=True, **two), lambda y: y), build
    )


def both_ways(k: Any, layer: Any) -> Any:
    return k.layers.Bidirectional(layer, name="layer")


def stacked(k: Any, x: Any) -> Any:
    first = k.layers.LSTM(3, return_sequences=True, name="one")(x)
    return k.layers.LSTM(3, return_sequences=True, name="two")(first)


ONE = {"l0": "layer/lstm_cell"}
TWO = {"l0": "one/lstm_cell", "l1": "two/lstm_cell"}
WAYS = {"l0": "layer/forward_layer/lstm_cell", "l0_reverse": "layer/backward_layer/lstm_cell"}
STACK = Case(
    "gate_order",
    lambda t: last_of(t, t.nn.LSTM(4, 3, num_layers=2, batch_first=True), lambda y: y),
    stacked,
)
CASES: dict[str, tuple[Case, dict[str, Any], dict[str, Any], str]] = {
    "a GRU carried over as it is": (
        whole("GRU"),
        gru(*RIGHT),
        gru("gru_kernel", "gru_bias"),
        "is reset, update, candidate in torch and update, reset, candidate in keras",
    ),
    "an LSTM": (
        whole("LSTM"),
        lstm(ONE, TWISTED),
        lstm(ONE, RIGHT),
        "is input, candidate, forget, output in torch and input, forget, candidate, output in keras",
    ),
    "an LSTM whose bias is right": (
        whole("LSTM"),
        lstm(ONE, (TWISTED[0], RIGHT[1])),
        lstm(ONE, RIGHT),
        "recurrent 0: input, candidate, forget, output; bias 0: input, forget, candidate, output in torch",
    ),
    "the second layer of a stack": (
        STACK,
        lstm(TWO, RIGHT, TWISTED),
        lstm(TWO, RIGHT, RIGHT),
        "bias 0: input, forget, candidate, output; kernel 1: input, candidate, forget, output",
    ),
    "both directions": (
        whole("LSTM", both_ways),
        lstm(WAYS, TWISTED, TWISTED),
        lstm(WAYS, RIGHT, RIGHT),
        "is input, candidate, forget, output in torch",
    ),
}


def looked(case: Case, weight_map: dict[str, Any], *, spoilt: bool = False) -> xcheck.Result:
    return looked_into(replace(pair_of(replace(case, shape=SHORT), spoilt), weight_map=weight_map))


@pytest.mark.parametrize("name", CASES)
def test_the_order_is_named_and_is_none_where_it_is_right(name: str) -> None:
    case, twisted, right, words = CASES[name]
    result = looked(case, twisted)
    assert [(c.id, c.confirmed) for c in result.causes] == [("gate_order", True)], result.report()
    assert words in result.causes[0].summary
    assert {c.verdict for c in looked(case, right).checks if c.phase == "forward"} == {"EQUIVALENT"}


def test_an_order_and_a_function_of_the_gates_are_both_named() -> None:
    case = whole("GRU", recurrent_activation="hard_sigmoid")
    named = {c.id for c in looked(case, gru(*RIGHT)).causes if c.confirmed}
    assert named == {"gate_order", "recurrent_activation"}
    assert {c.id for c in looked(case, gru("gru_kernel", "gru_bias")).causes} == {"recurrent_activation"}


def test_no_order_is_named_where_something_without_a_name_differs() -> None:
    result = looked(whole("GRU"), gru("gru_kernel", "gru_bias"), spoilt=True)
    assert [c for c in result.causes if c.confirmed] == [], result.report()
