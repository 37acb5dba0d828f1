"""Random layers and dropout inside of layers, in whole runs: switched off, compared by rate, or named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xcheck


def batches(*shape: int) -> Callable[[int], Iterator[xcheck.Batch]]:
    def made(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal(shape))

    return made


def run(torch: Any, keras: Any, *shape: int, steps: int = 1) -> xcheck.Result:
    pair = xcheck.Pair("random", xcheck.TorchSide(torch), xcheck.KerasSide(keras), batches(*shape))
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0)


def dense(middle: Callable[[Any], Any]) -> Callable[[], Any]:
    """Keras: Dense, something, Dense."""

    def build() -> Any:
        import keras

        x = keras.Input((4,))
        return keras.Model(x, keras.layers.Dense(2)(middle(keras.layers.Dense(5)(x))))

    return build


def linear(middle: Callable[[Any, bool], Any]) -> Callable[[], Any]:
    """PyTorch: Linear, something, Linear."""

    def build() -> Any:
        from torch import nn

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

            def forward(self, x: Any) -> Any:
                return self.b(middle(self.a(x), self.training))

        return Model()

    return build


def recurrent(rate: float) -> Callable[[], Any]:
    def build() -> Any:
        import torch
        from torch import nn

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rnn = nn.RNN(3, 4, 2, batch_first=True, dropout=rate)
                for name in ("bias_hh_l0", "bias_hh_l1"):
                    getattr(self.rnn, name).requires_grad_(False).zero_()

            def forward(self, x: Any) -> Any:
                return self.rnn(x)[0]

        with torch.no_grad():
            return Model()

    return build


def stacked(rate: float) -> Callable[[], Any]:
    def build() -> Any:
        import keras
        from keras import layers

        return keras.Sequential(
            [
                keras.Input((5, 3)),
                layers.SimpleRNN(4, return_sequences=True),
                layers.Dropout(rate),
                layers.SimpleRNN(4, return_sequences=True),
            ]
        )

    return build


@pytest.mark.parametrize(("rate", "verdict"), [(0.3, "EQUIVALENT"), (0.2, "DIFFERENT")])
def test_dropout_between_the_layers_of_a_recurrent_one(rate: float, verdict: str) -> None:
    result = run(recurrent(0.3), stacked(rate), 3, 5, 3)
    assert result.verdict == verdict
    assert {c.name for c in result.checks if c.verdict == "DIFFERENT"} <= {"dropout rates"}
    assert [(c.id, c.torch, c.keras) for c in result.causes] == (
        [] if rate == 0.3 else [("dropout_rate", "rnn", "dropout")]
    )


@pytest.mark.parametrize("rate", [0.2, 0.1])
def test_dropout_inside_of_an_attention_layer(rate: float) -> None:
    def torch() -> Any:
        from torch import nn

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = nn.MultiheadAttention(4, 2, dropout=0.2, batch_first=True)

            def forward(self, x: Any) -> Any:
                return self.attention(x, x, x, need_weights=False)[0]

        return Model()

    def keras() -> Any:
        import keras

        x = keras.Input((5, 4))
        return keras.Model(x, keras.layers.MultiHeadAttention(2, 2, dropout=rate)(x, x))

    result = run(torch, keras, 3, 5, 4)
    assert result.verdict == ("EQUIVALENT" if rate == 0.2 else "DIFFERENT")
    assert [(c.id, c.torch, c.keras) for c in result.causes] == (
        [] if rate == 0.2 else [("dropout_rate", "attention", "dropout")]
    )


def test_alpha_dropout_of_both_sides_is_switched_off() -> None:
    from torch.nn import functional as F

    def build(x: Any) -> Any:
        import keras

        return keras.layers.AlphaDropout(0.25)(x)

    result = run(linear(lambda x, t: F.alpha_dropout(x, 0.25, t)), dense(build), 6, 4)
    assert result.verdict == "EQUIVALENT"


def _noise(x: Any) -> Any:
    import keras

    return keras.layers.GaussianDropout(0.2)(x)


def _by_hand(x: Any, training: bool) -> Any:
    import torch

    return x * (torch.rand(len(x), 1) < 0.6) if training else x


def _rrelu(x: Any, training: bool) -> Any:
    from torch.nn import functional as F

    return x + F.rrelu(x, 0.1, 0.3, training) - F.leaky_relu(x, 0.2)


@pytest.mark.parametrize(
    ("torch", "keras", "place"),
    [
        (lambda x, _: x, _noise, "gaussian_dropout"),
        (_by_hand, lambda x: x, "(the model)"),
        (_rrelu, lambda x: x, "(the model)"),
    ],
)
def test_what_draws_on_one_side_is_the_only_cause(torch: Any, keras: Any, place: str) -> None:
    result = run(linear(torch), dense(keras), 8, 4)
    assert result.verdict == "DIFFERENT"
    (cause,) = result.causes
    assert (cause.id, cause.confirmed) == ("random_layer", True)
    assert place in (cause.torch, cause.keras)


def test_what_draws_on_both_sides_is_named_and_not_judged() -> None:
    import torch

    result = run(linear(lambda x, t: x + 0.2 * torch.randn_like(x) if t else x), dense(_noise), 8, 4, steps=2)
    assert result.verdict == "INCONCLUSIVE"
    assert not result.causes
    named = next(c for c in result.checks if c.name == "random numbers in training")
    assert "randn_like" in named.detail
    assert "gaussian_dropout: normal" in named.detail


def test_a_model_that_draws_to_no_effect_is_judged_as_any_other() -> None:
    import torch

    def idle(x: Any, training: bool) -> Any:
        return x * (torch.rand(1) >= 0.0)  # a layer drop of rate 0

    assert run(linear(idle), dense(lambda x: x), 8, 4).verdict == "EQUIVALENT"
