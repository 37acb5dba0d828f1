"""A dense layer after flattened channels: whether a port permutes its rows is told by the weights that it came with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xcheck

SIDE, CHANNELS, UNITS = 4, 3, 5


def images(seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((2, SIDE, SIDE, 2)))


def weights() -> dict[str, Any]:
    """As a checkpoint of PyTorch would hold them."""
    rng = np.random.default_rng(3)
    sizes = {"0.weight": (CHANNELS, 2, 3, 3), "0.bias": (CHANNELS,), "3.weight": (UNITS, CHANNELS * SIDE * SIDE)}
    return {name: rng.standard_normal(size) for name, size in sizes.items()} | {"3.bias": np.zeros(UNITS)}


def build_torch() -> Any:
    import torch
    from torch import nn

    dense = nn.Linear(CHANNELS * SIDE * SIDE, UNITS)
    model = nn.Sequential(nn.Conv2d(2, CHANNELS, 3, padding=1), nn.Tanh(), nn.Flatten(), dense)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights().items()})
    return model


def build_keras(loaded: str) -> Any:
    def build() -> Any:
        import keras

        conv = keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="tanh", name="conv")
        dense = keras.layers.Dense(UNITS, name="dense")
        model = keras.Sequential([keras.Input((SIDE, SIDE, 2)), conv, keras.layers.Flatten(), dense], name="m")
        if loaded != "never":
            rows = weights()["3.weight"]
            if loaded == "permuted":
                rows = rows.reshape(UNITS, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1).reshape(UNITS, -1)
            conv.set_weights([weights()["0.weight"].transpose(2, 3, 1, 0), weights()["0.bias"]])
            dense.set_weights([rows.T, weights()["3.bias"]])
        return model

    return build


def pair(loaded: str, **options: Any) -> xcheck.Pair:
    torch = xcheck.TorchSide(build_torch, prepare=lambda b: (b.inputs.transpose(0, 3, 1, 2), None))
    return xcheck.Pair("flattened", torch, xcheck.KerasSide(build_keras(loaded)), images, **options)


def run(made: xcheck.Pair) -> xcheck.Result:
    return xcheck.check(made, steps=2, free_steps=0, precision=("float64",))


def test_rows_that_the_port_permutes_are_matched_so() -> None:
    result = run(pair("permuted"))
    assert result.verdict == "EQUIVALENT", result.report()
    how = {c.name: c.detail for c in result.checks if c.phase == "inventory"}
    layout = f"o (c={CHANNELS} p) -> (p c) o"
    assert how["3.weight"] == f"{layout}, by value"
    note = f"equal only if the port loads the parts of an axis in a different order: 3.weight as {layout}"
    assert note in result.notes


@pytest.mark.parametrize("loaded", ["plain", "never"])
def test_a_port_that_does_not_permute_them_is_found(loaded: str) -> None:
    result = run(pair(loaded))
    assert result.verdict == "DIFFERENT", result.report()
    assert result.first_divergence.phase == "forward"
    assert [c.id for c in result.causes if c.confirmed and c.phase == "forward"] == ["permuted_axes"]
    assert f'the layout "o (c={CHANNELS} p) -> (p c) o"' in next(c.fix for c in result.causes if c.phase == "forward")


def test_what_the_cause_proposes_makes_it_the_same() -> None:
    layout = f"o (c={CHANNELS} p) -> (p c) o"
    assert run(pair("never", weight_map={"3.weight": ("m/dense/kernel", layout)})).verdict == "EQUIVALENT"
