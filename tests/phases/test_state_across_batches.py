"""State that both sides keep from batch to batch is matched by what a step makes of it, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xcheck

QUICK: dict[str, Any] = {"steps": 2, "precision": ("float64",), "free_steps": 0}


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((3, 4, 2)))


def torch_net(kind: str, keeps: float = 1.0) -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.r = getattr(nn, kind)(2, 3, batch_first=True, bias=False)
            self.o = nn.Linear(3, 2)
            self.register_buffer("h", torch.zeros(1, 3, 3))
            if kind == "LSTM":
                self.register_buffer("c", torch.zeros(1, 3, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = (self.h.clone(), self.c.clone()) if kind == "LSTM" else self.h.clone()
            y, state = self.r(x, state)
            if kind == "LSTM":
                self.h, self.c = (s.detach() for s in state)
            else:
                self.h.copy_(keeps * state.detach())
            return self.o(y[:, -1])

    return Net()


def keras_net(kind: str) -> Any:
    import keras
    from keras import layers

    inputs = keras.Input(batch_shape=(3, 4, 2))
    return keras.Model(inputs, layers.Dense(2)(getattr(layers, kind)(3, stateful=True, use_bias=False)(inputs)))


def pair(kind: str, keras_kind: str, **options: Any) -> xcheck.Pair:
    sides = xcheck.TorchSide(lambda: torch_net(kind, **options)), xcheck.KerasSide(lambda: keras_net(keras_kind))
    return xcheck.Pair("kept", *sides, batches)


@pytest.mark.parametrize(("kind", "keras_kind"), [("GRU", "GRU"), ("RNN", "SimpleRNN"), ("LSTM", "LSTM")])
def test_a_stateful_layer_is_equivalent_to_one_that_keeps_its_state_in_a_buffer(kind: str, keras_kind: str) -> None:
    result = xcheck.check(pair(kind, keras_kind), **QUICK)
    result.assert_equivalent()
    compared = {c.torch for c in result.checks if c.phase == "state"}
    assert compared == ({"h", "c"} if kind == "LSTM" else {"h"})


def test_a_state_that_is_kept_in_another_way_is_different_there() -> None:
    result = xcheck.check(pair("GRU", "GRU", keeps=0.9), **QUICK)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.torch) == ("state", "h")
    assert not any(cause.confirmed for cause in result.causes)
