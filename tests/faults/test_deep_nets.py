"""Faults that are hard to see, in a net of thirty layers whose names say nothing, without a weight map.

Each is found at the call where it is, and its cause is confirmed with nothing else beside it. Most leave the outputs
closer than any tolerance that is used for float32, or leave them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hard_models import hard, keras_net, torch_net

import xcheck


@dataclass(frozen=True)
class Fault:
    """One fault of `hard_models.py`.

    Attributes:
        planted: keywords of `hard`.
        phase: in which the sides first part.
        torch, keras: where.
        cause: expected id.
        words: that its summary has.
    """

    planted: dict[str, Any]
    phase: str
    torch: str
    keras: str
    cause: str
    words: str


FAULTS: dict[str, Fault] = {
    "epsilon of one layer norm": Fault(
        {"keras": {"epsilon": 1e-12}}, "forward", "m11", "layer_8", "epsilon", "1e-06 in torch and 1e-12 in keras"
    ),
    "tanh for erf in one gelu": Fault(
        {"keras": {"gelu": "tanh"}}, "forward", "m19", "layer_14", "activation", "(exact) in torch and gelu (tanh)"
    ),
    "same padding of a strided convolution": Fault(
        {"keras": {"strided": "same"}}, "forward", "m8", "layer_17", "padding", "0 before and 1 after in keras"
    ),
    "the border of a mean": Fault(
        {"keras": {"border": "left out"}}, "forward", "m5", "layer_1", "pool_border", "counted in torch and left out"
    ),
    "aligned corners": Fault(
        {"torch": {"align_corners": True}},
        "forward",
        "(the model): interpolate",
        "layer_21",
        "resize_coordinates",
        "corners aligned in torch and half pixel in keras",
    ),
    "polarity of a mask": Fault(
        {"keras": {"mask": "blocked"}},
        "forward",
        "m6",
        "layer_31",
        "mask_polarity",
        "blocked where the mask is true in torch",
    ),
    "the reset gate before the product": Fault(
        {"keras": {"reset_after": False}}, "forward", "m21", "layer_26", "reset_after", "after it is multiplied"
    ),
    "biased running variance": Fault(
        {"keras": {"variance": "biased"}},
        "state",
        "m3.running_var",
        "layer_30/moving_variance",
        "biased_variance",
        "the keras side the biased one",
    ),
    "momentum copied as it is": Fault(
        {"keras": {"momentum": 0.1}},
        "state",
        "m3.running_mean",
        "layer_30/moving_mean",
        "momentum_convention",
        "0.1 of the running statistics in torch and 0.9 in keras",
    ),
    "rate of a dropout": Fault(
        {"keras": {"rate": 0.2}}, "forward", "m10", "layer_24", "dropout_rate", "0.25 in torch and 0.2 in keras"
    ),
    "gradient of the padding row": Fault(
        {"keras": {"row": "trained"}}, "gradient", "m30.weight", "layer_4/embeddings", "padding_row", "row 0"
    ),
    "epsilon before the bias correction": Fault(
        {"adam": "keras"}, "update", "m12.weight", "layer_9/kernel", "optimizer_formula", "before the bias correction"
    ),
}


def run(**planted: Any) -> xcheck.Result:
    return xcheck.check(hard(**planted), steps=1, precision=("float64",), free_steps=0)


def test_there_are_more_than_twenty_layers_under_names_that_say_nothing():
    layers, modules = keras_net().layers, list(torch_net().named_children())
    assert len(layers) > 20
    assert len(modules) > 20
    assert all(name.startswith("m") and name[1:].isdigit() for name, _ in modules)


@pytest.mark.slow
def test_without_a_fault_nothing_differs():
    result = run()
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"]["unmatched"] == 0
    assert any("matched without a map" in note for note in result.notes)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is_and_its_cause_is_confirmed(name):
    fault = FAULTS[name]
    result = run(**fault.planted)
    assert result.verdict == "DIFFERENT"
    first = result.first_divergence
    assert first is not None
    assert (first.phase, first.torch, first.keras) == (fault.phase, fault.torch, fault.keras), result.report()
    assert [(c.id, c.confirmed) for c in result.causes] == [(fault.cause, True)], result.report()
    assert fault.words in result.causes[0].summary
