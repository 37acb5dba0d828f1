"""Dropout of equal rates is compared by what it is applied to: the tensor, its elements or channels, and its kind.

Each pair is one small net; `MOVES` are equal in distribution though written in another order, `DIFFERS` are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import xcheck
from xcheck.frameworks.drawing import STAND_IN, noise_of
from xcheck.records.result import SCALED


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((3, 6, 4)))


@dataclass(frozen=True)
class Net:
    """What stands between two dense layers: in PyTorch from (the module, x), in Keras from (the layers, x)."""

    torch: Callable[[Any, Any], Any]
    keras: Callable[[dict[str, Any], Any], Any]

    def run(self, **settings: Any) -> xcheck.Result:
        pair = xcheck.Pair("dropping", xcheck.TorchSide(self._torch), xcheck.KerasSide(self._keras), batches)
        return xcheck.check(
            pair, **{"steps": 1, "precision": ("float64",), "free_steps": 0, "reach": "none", **settings}
        )

    def _torch(self) -> Any:
        from torch import nn

        body = self.torch

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.attention = nn.Linear(4, 4), nn.Linear(4, 2), None
                self.low, self.high, self.alpha = nn.Dropout(0.1), nn.Dropout(0.4), nn.AlphaDropout(0.4)
                self.channels, self.inplace = nn.Dropout1d(0.4), nn.Dropout(0.4, inplace=True)

            def forward(self, x: Any) -> Any:
                return self.b(body(self, x))

        return Model()

    def _keras(self) -> Any:
        import keras
        from keras import layers

        parts = {
            "a": layers.Dense(4, name="a"),
            "low": layers.Dropout(0.1, name="low"),
            "high": layers.Dropout(0.4, name="high"),
            "alpha": layers.AlphaDropout(0.4, name="alpha"),
            "channels": layers.SpatialDropout1D(0.4, name="channels"),
        }
        x = keras.Input((6, 4))
        return keras.Model(x, layers.Dense(2, name="b")(self.keras(parts, x)))


def relu(x: Any) -> Any:
    import keras

    return keras.ops.relu(x)


def gelu(x: Any) -> Any:
    import keras

    return keras.ops.gelu(x, approximate=False)


def torch_gelu(x: Any) -> Any:
    from torch.nn import functional as F

    return F.gelu(x)


def fill(m: Any, x: Any) -> Any:
    y = m.a(x)
    m.inplace(y)  # its result is not used
    return y


EQUAL = {
    "behind the activation or before it": Net(
        lambda m, x: m.high(m.a(x).relu()), lambda k, x: relu(k["high"](k["a"](x)))
    ),
    "behind a factor or before it": Net(lambda m, x: m.high(m.a(x) * 3), lambda k, x: k["high"](k["a"](x)) * 3),
    "two rates": Net(lambda m, x: m.low(m.a(m.high(x))), lambda k, x: k["low"](k["a"](k["high"](x)))),
    "alpha dropout": Net(lambda m, x: m.alpha(m.a(x)), lambda k, x: k["alpha"](k["a"](x))),
    "in place": Net(fill, lambda k, x: k["high"](k["a"](x))),
    "before the last position is taken or behind it": Net(
        lambda m, x: m.high(m.a(x))[:, -1], lambda k, x: k["high"](k["a"](x)[:, -1])
    ),
    "one mask for all positions, made by hand": Net(
        lambda m, x: m.a(x) * m.high(x.new_ones(3, 1, 4)), lambda k, x: k["channels"](k["a"](x))
    ),
    "whole channels": Net(
        lambda m, x: m.channels(m.a(x).transpose(1, 2)).transpose(1, 2), lambda k, x: k["channels"](k["a"](x))
    ),
}

DIFFERENT = {
    "the sum, not the branch": (
        Net(lambda m, x: x + m.high(m.a(x)), lambda k, x: k["high"](x + k["a"](x))),
        ("dropout_place", "high", "high"),
    ),
    "two rates exchanged": (
        Net(lambda m, x: m.low(m.a(m.high(x))), lambda k, x: k["high"](k["a"](k["low"](x)))),
        ("dropout_place", "high", "low"),
    ),
    "before a curved activation": (
        Net(lambda m, x: torch_gelu(m.high(m.a(x))), lambda k, x: k["high"](gelu(k["a"](x)))),
        ("dropout_place", "high", "high"),
    ),
    "plain for alpha": (
        Net(lambda m, x: m.alpha(m.a(x)), lambda k, x: k["high"](k["a"](x))),
        ("dropout_kind", "alpha", "high"),
    ),
    "elements for channels": (
        Net(lambda m, x: m.high(m.a(x)), lambda k, x: k["channels"](k["a"](x))),
        ("dropout_noise", "high", "channels"),
    ),
    "channels of the other axis": (
        Net(lambda m, x: m.channels(m.a(x)), lambda k, x: k["channels"](k["a"](x))),
        ("dropout_noise", "channels", "channels"),
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_dropout_of_the_same_tensor_is_the_same(name: str) -> None:
    result = EQUAL[name].run()
    assert result.verdict == "EQUIVALENT", result.report()
    assert any(c.detail.startswith(SCALED) and c.phase == "gradient" for c in result.checks)


@pytest.mark.parametrize("name", DIFFERENT)
def test_dropout_of_something_else_is_found_and_named(name: str) -> None:
    net, (cause, torch, keras) = DIFFERENT[name]
    result = net.run()
    assert result.verdict == "DIFFERENT", result.report()
    found = [(c.id, (c.torch or "").partition(":")[0], (c.keras or "").partition(":")[0]) for c in result.causes]
    assert found == [(cause, torch, keras)]
    assert result.causes[0].confirmed
    divergence = result.first_divergence
    assert divergence is not None
    assert (divergence.torch, divergence.keras) == (result.causes[0].torch, result.causes[0].keras)


def test_a_place_is_not_confirmed_beside_a_different_kind() -> None:
    """The first dropout of the two nets commutes with the activation; only the second differs."""
    net = Net(
        lambda m, x: m.alpha(m.a(m.low(x.relu()))),
        lambda k, x: k["high"](k["a"](relu(k["low"](x)))),
    )
    found = [(c.id, c.confirmed) for c in net.run().causes]
    assert found == [("dropout_kind", True), ("dropout_place", False)]


def test_a_model_that_drops_nothing_has_no_such_step() -> None:
    result = Net(lambda m, x: m.a(x), lambda k, x: k["a"](x)).run()
    assert not any(c.detail.startswith(SCALED) for c in result.checks)
    assert not any("dropout" in note for note in result.notes)


def test_dropout_hands_its_input_on_outside_of_such_a_step() -> None:
    x = np.ones(2)
    assert STAND_IN.of(x, 0.5) is x
    with STAND_IN.scaling():
        assert STAND_IN.of(x, 0.5).tolist() == [1.5, 1.5]
        assert STAND_IN.of(x, 0.5, shifts=True).tolist() == [2.0, 2.0]
    assert STAND_IN.of(x, 0.5) is x


@pytest.mark.parametrize(
    ("noise", "drawn"),
    [(None, (24, 1)), ((2, None, 4), (24, 1)), ((2, 1, 4), (8, 1 / 3)), ((None, 1), None), ((2, "n", 4), None)],
)
def test_how_many_numbers_a_mask_has(noise: Any, drawn: Any) -> None:
    assert noise_of((2, 3, 4), noise) == drawn
