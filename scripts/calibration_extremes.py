"""Equal pairs that are hard on a noise model: deep, long, saturated, ill-conditioned, chaotic, of extreme sizes.

They are judged in float64 alone: some of them leave the range of float32, which is a verdict of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import torch
from torch import nn

import xcheck
import xcheck.optim

WIDTH, FEATURES, OUTPUTS = 6, 4, 2
DEPTH, LENGTH, TERMS = 60, 500, 1_000_000
Extreme = Callable[[int], xcheck.Pair]
"""(batch size) -> a pair that is equal."""


def normal(
    size: int,
    shape: tuple[int, ...] = (FEATURES,),
    scale: Any = 1.0,
    targets: tuple[int, ...] = (OUTPUTS,),
    of: float = 1.0,
) -> Callable[[int], Iterator[xcheck.Batch]]:
    """Batches of Gaussian inputs (size, *shape) times `scale`, and of targets (size, *targets) times `of`."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(scale * rng.standard_normal((size, *shape)), of * rng.standard_normal((size, *targets)))

    return batches


def regression(
    name: str,
    build_torch: Callable[[], nn.Module],
    build_keras: Callable[[], Any],
    batches: Callable[[int], Iterator[xcheck.Batch]],
    rate: float = 0.05,
    adam: bool = False,
) -> xcheck.Pair:
    """A pair that learns by the mean squared error, with SGD or with Adam by Keras's formula."""
    optimizer: Any = lambda p: xcheck.optim.KerasAdam(p, rate) if adam else torch.optim.SGD(p, lr=rate)  # noqa: E731
    other: Any = lambda: (keras.optimizers.Adam if adam else keras.optimizers.SGD)(rate)  # noqa: E731
    return xcheck.Pair(
        name,
        xcheck.TorchSide(build_torch, loss=nn.functional.mse_loss, optimizer=optimizer),
        xcheck.KerasSide(build_keras, loss="mean_squared_error", optimizer=other),
        batches,
    )


class Torch(nn.Module):
    """Dense, a function without weights, Dense."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], features: int = FEATURES) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(features, WIDTH), nn.Linear(WIDTH, OUTPUTS), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.between(self.first(x)))


def two_layers(
    name: str,
    between: tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[Any], Any]],
    scale: Any = 1.0,
    of: float = 1.0,
    **options: Any,
) -> Extreme:
    """Dense, a function without weights (one of each framework), Dense; inputs times `scale`, targets times `of`."""

    class Between(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return between[1](x)

    def case(size: int) -> xcheck.Pair:
        def build_keras() -> Any:
            layers = [keras.layers.Dense(WIDTH, name="first"), Between(), keras.layers.Dense(OUTPUTS, name="last")]
            return keras.Sequential([keras.Input((FEATURES,)), *layers])

        return regression(name, lambda: Torch(between[0]), build_keras, normal(size, scale=scale, of=of), **options)

    return case


def deep(residual: bool) -> Extreme:
    """60 layers of tanh, added to what came in or not."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(FEATURES, FEATURES) for _ in range(DEPTH))
            self.last = nn.Linear(FEATURES, OUTPUTS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = x + layer(x).tanh() if residual else layer(x).tanh()
            return self.last(x)

    def build_keras() -> Any:
        x = start = keras.Input((FEATURES,))
        for i in range(DEPTH):
            y = keras.layers.Dense(FEATURES, activation="tanh", name=f"layer_{i:02}")(x)
            x = keras.layers.Add(name=f"sum_{i:02}")([x, y]) if residual else y
        return keras.Model(start, keras.layers.Dense(OUTPUTS, name="last")(x))

    rate = 1e-4 if residual else 0.05
    return lambda size: regression("deep", Deep, build_keras, normal(size), rate)


def long(size: int) -> xcheck.Pair:
    """A simple recurrent net over 500 positions, its last state."""

    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = nn.RNN(FEATURES, WIDTH, bias=False, batch_first=True), nn.Linear(WIDTH, OUTPUTS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.cell(x)[0][:, -1])

    def build_keras() -> Any:
        cell = keras.layers.SimpleRNN(WIDTH, use_bias=False, name="cell")
        return keras.Sequential([keras.Input((LENGTH, FEATURES)), cell, keras.layers.Dense(OUTPUTS, name="last")])

    return regression("long", Long, build_keras, normal(size, (LENGTH, FEATURES)))


def long_attention(size: int) -> xcheck.Pair:
    """Softmax over 500 positions, written out."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.value = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, OUTPUTS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((self.query(x) @ x.mT).softmax(-1) @ self.value(x)).mean(1)

    class Mixed(keras.layers.Layer):
        def call(self, query: Any, x: Any, value: Any) -> Any:
            scores = keras.ops.softmax(keras.ops.matmul(query, keras.ops.transpose(x, (0, 2, 1))))
            return keras.ops.mean(keras.ops.matmul(scores, value), 1)

    def build_keras() -> Any:
        x = keras.Input((LENGTH, FEATURES))
        query, value = keras.layers.Dense(FEATURES, name="query")(x), keras.layers.Dense(OUTPUTS, name="value")(x)
        return keras.Model(x, Mixed()(query, x, value))

    return regression("long attention", Attention, build_keras, normal(size, (LENGTH, FEATURES)))


def summed(size: int) -> xcheck.Pair:
    """A Dense layer at so many positions that its gradient, and the loss, are sums of a million terms."""
    shape = (TERMS // size, 1)

    def build_keras() -> Any:
        return keras.Sequential([keras.Input(shape), keras.layers.Dense(1, name="only")])

    build: Any = lambda: nn.Sequential(nn.Linear(1, 1))  # noqa: E731
    return regression("summed", build, build_keras, normal(size, shape, targets=shape))


def norm_of(x: Any, mean: Any, root: Any) -> Any:
    """Rows of next to equal numbers, normalized: their differences have lost ten digits."""
    x = 1.0 + 1e-6 * x
    apart = x - mean(x)
    return apart / root(mean(apart * apart) + 1e-14)


def torch_mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(-1, keepdim=True)


def keras_mean(x: Any) -> Any:
    return keras.ops.mean(x, -1, keepdims=True)


def logistic(x: Any, sigmoid: Any) -> Any:
    """15 steps of the logistic map, each of which doubles an error or so."""
    x = sigmoid(x)
    for _ in range(15):
        x = 3.9 * x * (1.0 - x)
    return x


TANH = torch.tanh, keras.ops.tanh
RELU = torch.relu, keras.ops.relu
EACH_ITS_OWN = np.logspace(-12, 12, FEATURES)

EXTREMES: dict[str, Extreme] = {
    "60 layers": deep(residual=False),
    "60 layers, residual": deep(residual=True),
    "sequences of 500, recurrent": long,
    "sequences of 500, softmax": long_attention,
    "saturated tanh": two_layers("saturated tanh", TANH, scale=40.0, rate=10.0),
    "saturated tanh, KerasAdam": two_layers("saturated tanh", TANH, scale=20.0, rate=0.5, adam=True),
    "saturated sigmoid": two_layers("saturated sigmoid", (torch.sigmoid, keras.ops.sigmoid), scale=40.0),
    "saturated gelu": two_layers(
        "saturated gelu", (nn.functional.gelu, lambda x: keras.ops.gelu(x, approximate=False)), scale=12.0
    ),
    "ill-conditioned rows": two_layers(
        "rows", (lambda x: norm_of(x, torch_mean, torch.sqrt), lambda x: norm_of(x, keras_mean, keras.ops.sqrt))
    ),
    "chaotic map": two_layers(
        "chaotic", (lambda x: logistic(x, torch.sigmoid), lambda x: logistic(x, keras.ops.sigmoid)), rate=1e-3
    ),
    "chaotic training": two_layers("chaotic training", TANH, rate=10.0),
    "large rate": two_layers("large rate", TANH, rate=1e3),
    "large rate, relu": two_layers("large rate", RELU, rate=1e2),
    "sums of 1e6 terms": summed,
    "scale 1e-12": two_layers("small", TANH, scale=1e-12, of=1e-12),
    "scale 1e12": two_layers("large", RELU, scale=1e12, of=1e12, rate=1e-30),
    "scale 1e12, diverging": two_layers("large", RELU, scale=1e12, of=1e12),
    "scale 1e12, KerasAdam": two_layers("large", RELU, scale=1e12, of=1e12, adam=True),
    "scales 1e-12 to 1e12": two_layers("contrast", RELU, scale=EACH_ITS_OWN, rate=1e-30),
    "scales 1e-12 to 1e12, KerasAdam": two_layers("contrast", RELU, scale=EACH_ITS_OWN, adam=True),
}
"""The pairs, by the names of their rows."""
