"""One net in both frameworks, with a place on the Keras side for each fault: convolution, norms, residual blocks.

PyTorch's is fixed. What is planted on the Keras side are functions or settings by the names of `keras_net`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import xcheck


def torch_net() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.up = nn.Linear(8, 16)
            self.act = nn.GELU()
            self.down = nn.Linear(16, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(self.act(self.up(self.norm(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.blocks = nn.ModuleList([Block(), Block()])
            self.head = nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.conv(x)))  # (B, 8, 6, 6)
            x = x.flatten(2).transpose(1, 2)  # (B, 36, 8)
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean(1))

    return Net()


def keras_net(
    norm: Any = None, act: Any = "gelu", layer_norm: Any = None, scaled: float = 1.0, residual: bool = True
) -> Any:
    """`norm`, `act`, `layer_norm` and `residual` are of the second block, but for the batch norm."""
    import keras
    from keras import layers, ops

    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm", **(norm or {"epsilon": 1e-5, "momentum": 0.9}))(x)
    x = layers.Reshape((36, 8))(layers.ReLU()(x))
    if scaled != 1.0:
        x = x * scaled
    for i in range(2):
        options = layer_norm if i and layer_norm else {"epsilon": 1e-5}
        h = layers.LayerNormalization(name=f"ln_{i}", **options)(x)
        h = layers.Dense(16, activation=act if i else "gelu", name=f"up_{i}")(h)
        h = layers.Dense(8, name=f"down_{i}")(h)
        x = x + h if residual or not i else h
    return keras.Model(inputs, layers.Dense(5, name="head")(ops.mean(x, axis=1)))


def _both(torch: str, keras: str, roles: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {f"{torch}.{mine}": f"{keras}/{theirs}" for mine, theirs in roles}


DENSE = (("weight", "kernel"), ("bias", "bias"))
NORM = (("weight", "gamma"), ("bias", "beta"))
MAP = _both("conv", "conv", DENSE) | _both("norm", "norm", NORM) | _both("head", "head", DENSE)
for _i in range(2):
    MAP |= _both(f"blocks.{_i}.norm", f"ln_{_i}", NORM)
    MAP |= _both(f"blocks.{_i}.up", f"up_{_i}", DENSE) | _both(f"blocks.{_i}.down", f"down_{_i}", DENSE)


def images(seed: int) -> Iterator[xcheck.Batch]:
    """(B, 6, 6, 3), channels last."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((2, 6, 6, 3)))


def channels_first(batch: xcheck.Batch) -> Any:
    return batch.inputs.transpose(0, 3, 1, 2), None  # pyright: ignore


def net(reference: Any = "torch", **faults: Any) -> xcheck.Pair:
    """The pair, with faults of `keras_net`."""
    return xcheck.Pair(
        name="net",
        torch=xcheck.TorchSide(torch_net, prepare=channels_first),
        keras=xcheck.KerasSide(lambda: keras_net(**faults)),
        batches=images,
        weight_map=MAP,
        reference=reference,
    )


UP_TO_THE_GRADIENT = ("inventory", "sync", "forward", "loss", "gradient")
"""PyTorch's batch norm keeps another variance than Keras's, which is a difference of its own behind the others."""


def looked_into(pair: xcheck.Pair, phases: tuple[str, ...] | None = UP_TO_THE_GRADIENT) -> xcheck.Result:
    """One step in float64, and nothing behind it."""
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)
