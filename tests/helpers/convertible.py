"""Small pairs whose checkpoints are converted: one for each way in which a weight differs between the frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import xcheck

Build = Callable[[], Any]


def pair(name: str, torch: Build, keras: Build, batch: Callable[[np.random.Generator], Any], **settings: Any) -> Any:
    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(batch(rng))

    prepare = settings.pop("prepare", None)
    return xcheck.Pair(name, xcheck.TorchSide(torch, prepare=prepare), xcheck.KerasSide(keras), batches, **settings)


def to_channels_first(batch: Any) -> Any:
    return batch.inputs.transpose(0, 3, 1, 2), None


def module(forward: Callable[[Any, Any], Any], **layers: Any) -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return Net()


def convolutions(size: int = 5) -> Any:
    """A convolution, batch norm, a transposed and a grouped convolution, and a dense layer."""

    def torch() -> Any:
        from torch import nn

        def forward(net: Any, x: Any) -> Any:
            x = net.norm(net.conv(x)).relu()
            x = net.grouped(net.up(x)).permute(0, 2, 3, 1).flatten(1)
            return net.head(x)

        return module(
            forward,
            conv=nn.Conv2d(3, 4, 3),
            norm=nn.BatchNorm2d(4),
            up=nn.ConvTranspose2d(4, 6, 2, stride=2),
            grouped=nn.Conv2d(6, 4, 2, groups=2),
            head=nn.Linear(4 * 7 * 7, size),
        )

    def keras() -> Any:
        from keras import Input, Sequential, layers

        return Sequential(
            [
                Input((6, 6, 3)),
                layers.Conv2D(4, 3),
                layers.BatchNormalization(epsilon=1e-5, momentum=0.9),
                layers.ReLU(),
                layers.Dropout(0.1),
                layers.Conv2DTranspose(6, 2, strides=2),
                layers.Conv2D(4, 2, groups=2),
                layers.Flatten(),
                layers.Dense(size, name="head"),
            ],
            name="net",
        )

    return pair("convolutions", torch, keras, lambda rng: rng.standard_normal((2, 6, 6, 3)), prepare=to_channels_first)


def language_model() -> Any:
    """A tied embedding, query, key and value in one matrix, and a scale that Keras holds plus one."""

    def torch() -> Any:
        import torch as t

        class Scaled(t.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = t.nn.Parameter(t.zeros(8))

            def forward(self, x: Any) -> Any:
                return x * (1 + self.weight)

        def forward(net: Any, ids: Any) -> Any:
            x = net.scale(net.embed(ids))
            q, k, v = net.qkv(x).chunk(3, -1)
            return net.head((q @ k.transpose(1, 2)).softmax(-1) @ v)

        net = module(
            forward,
            embed=t.nn.Embedding(11, 8),
            scale=Scaled(),
            qkv=t.nn.Linear(8, 24),
            head=t.nn.Linear(8, 11, bias=False),
        )
        net.head.weight = net.embed.weight
        return net

    def keras() -> Any:
        import keras as k

        class Net(k.Model):
            def __init__(self) -> None:
                super().__init__(name="net")
                self.embed = k.layers.Embedding(11, 8)
                self.q, self.k, self.v = (k.layers.Dense(8, name=name) for name in "qkv")
                self.scale = self.add_weight(shape=(8,), initializer="ones", name="scale")

            def call(self, ids: Any) -> Any:
                x = self.embed(ids) * self.scale
                q, key, v = self.q(x), self.k(x), self.v(x)
                weights = k.ops.softmax(q @ k.ops.transpose(key, (0, 2, 1)))
                return weights @ v @ k.ops.transpose(self.embed.embeddings)

        return Net()

    layers = {
        "embed.weight": "net/embedding/embeddings",
        "scale.weight + 1": "net/scale",
        **{f"qkv.weight[{i}/3]": f"net/{name}/kernel" for i, name in enumerate("qkv")},
        **{f"qkv.bias[{i}/3]": f"net/{name}/bias" for i, name in enumerate("qkv")},
    }
    return pair("language_model", torch, keras, lambda rng: rng.integers(0, 11, (2, 5)), weight_map=layers)


def recurrent() -> Any:
    """An LSTM, whose two biases Keras holds as their sum, and a GRU with other gates."""

    def torch() -> Any:
        from torch import nn

        return module(
            lambda net, x: net.gru(net.lstm(x)[0])[0],
            lstm=nn.LSTM(4, 6, batch_first=True),
            gru=nn.GRU(6, 5, batch_first=True),
        )

    def keras() -> Any:
        from keras import Input, Sequential, layers

        return Sequential(
            [Input((3, 4)), layers.LSTM(6, return_sequences=True), layers.GRU(5, return_sequences=True)], name="net"
        )

    return pair("recurrent", torch, keras, lambda rng: rng.standard_normal((2, 3, 4)))


def square(layout: str, epsilon: float = 1e-5) -> Any:
    """A square kernel whose layout the map gives."""

    def torch() -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

    def keras() -> Any:
        from keras import Input, Sequential, layers

        norm = layers.LayerNormalization(epsilon=epsilon, name="n")
        return Sequential([Input((4,)), layers.Dense(4, name="d"), norm], name="net")

    return pair(
        "square",
        torch,
        keras,
        lambda rng: rng.standard_normal((3, 4)),
        weight_map={"0.weight": ("net/d/kernel", layout), "0.bias": "net/d/bias", "1.weight": "net/n/gamma",
                    "1.bias": "net/n/beta"},
    )  # fmt: skip


PAIRS = {"convolutions": convolutions, "language_model": language_model, "recurrent": recurrent}
