"""Fourteen planted faults and a healthy partner of each, checked on one Keras backend; run as a script.

    KERAS_BACKEND=jax python tests/helpers/backend_faults.py [NAME ...]

prints a line of JSON for each: its name, and of the fault and of its partner verdict, phase of the first difference
and confirmed causes.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import xcheck


def rows(*shape: int, classes: int = 0) -> Callable[[int], Any]:
    """Batches of normal numbers, with targets of two columns or class labels."""

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            x = rng.standard_normal((6, *shape))
            yield xcheck.Batch(x, rng.integers(0, classes, 6) if classes else rng.standard_normal((6, 2)))

    return batches


def pair(name: str, torch_side: Any, keras_side: Any, batches: Any, **options: Any) -> xcheck.Pair:
    sides = (
        side if isinstance(side, kind) else kind(side)
        for side, kind in ((torch_side, xcheck.TorchSide), (keras_side, xcheck.KerasSide))
    )
    return xcheck.Pair(name, *sides, batches, **options)


def squared(outputs: Any, targets: Any) -> Any:
    return ((outputs - targets) ** 2).mean()


def stack(*layers: Any, shape: tuple[int, ...]) -> Callable[[], Any]:
    """Builds a Keras Sequential from (class name, arguments, options)."""

    def build() -> Any:
        import keras

        made = [getattr(keras.layers, kind)(*args, **options) for kind, args, options in layers]
        return keras.Sequential([keras.Input(shape), *made])

    return build


def dense(*units: int) -> Callable[[], Any]:
    return stack(*(("Dense", (n,), {}) for n in units), shape=(4,))


def linear() -> Any:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def normalised(epsilon: float) -> xcheck.Pair:
    keras_build = stack(
        ("Dense", (3,), {}), ("LayerNormalization", (), {"epsilon": epsilon}), ("Dense", (2,), {}), shape=(4,)
    )
    return pair(
        "epsilon",
        lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3, eps=1e-5), nn.Linear(3, 2)),
        keras_build,
        rows(4),
    )


class Unbiased(nn.Module):
    """A batch norm whose running variance is the biased one, as Keras keeps it."""

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.norm, self.momentum = nn.BatchNorm1d(4, eps=1e-3, momentum=momentum), momentum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm: Any = self.norm
        before = norm.running_var.clone()
        y = self.norm(x)
        if self.training:
            n = x.shape[0]
            kept = before * (1 - self.momentum)
            norm.running_var = kept + (norm.running_var - kept) * (n - 1) / n
        return y


def batch_norm(momentum: float) -> xcheck.Pair:
    return pair(
        "momentum",
        lambda: nn.Sequential(Unbiased(0.1), nn.Linear(4, 2)),
        stack(("BatchNormalization", (), {"momentum": momentum, "epsilon": 1e-3}), ("Dense", (2,), {}), shape=(4,)),
        rows(4),
    )


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(2, 3, 4, stride=2, padding=1), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x.transpose(1, 2)).square().mean(-1))


def padded(padding: str) -> xcheck.Pair:
    """Symmetric padding by hand against Keras's "same", which pads more behind here."""

    def build() -> Any:
        import keras

        x = keras.Input((9, 2))
        y = x if padding == "same" else keras.layers.ZeroPadding1D(1)(x)
        y = keras.layers.Conv1D(3, 4, strides=2, padding="same" if padding == "same" else "valid", name="conv")(y)
        y: Any = keras.ops.mean(keras.ops.square(y), axis=1)
        return keras.Model(x, keras.layers.Dense(2, name="head")(y))

    return pair("padding", Conv, build, rows(9, 2))


class Hidden(nn.Module):
    """A hidden layer with a tanh, whose kernel is multiplied by a number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.hidden, self.head, self.scale = nn.Linear(4, 5), nn.Linear(5, 2), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(nn.functional.linear(x, self.scale * self.hidden.weight, self.hidden.bias)))


def scaled(scale: float) -> xcheck.Pair:
    keras_build = stack(("Dense", (5,), {"activation": "tanh"}), ("Dense", (2,), {}), shape=(4,))
    return pair("scaled kernel", lambda: Hidden(scale), keras_build, rows(4))


def biased(after: bool) -> xcheck.Pair:
    """A layer that adds its bias before its tanh or after it."""

    def build() -> Any:
        import keras

        class Layer(keras.layers.Dense):
            def call(self, inputs: Any, training: Any = None) -> Any:
                y: Any = keras.ops.matmul(inputs, self.kernel)
                made: Any = keras.ops.tanh(y if after else y + self.bias)
                return made + self.bias if after else made

        x = keras.Input((4,))
        return keras.Model(x, keras.layers.Dense(2, name="head")(Layer(5, name="hidden")(x)))

    return pair("late bias", lambda: Hidden(1.0), build, rows(4))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2) * 0.5
        return (torch.softmax(scores, -1) @ self.v(x)).mean(1)


def attention(scale: float) -> xcheck.Pair:
    def build() -> Any:
        import keras

        x = keras.Input((5, 4))
        q, k = keras.layers.Dense(4, name="q")(x), keras.layers.Dense(4, name="k")(x)
        v = keras.layers.Dense(2, name="v")(x)
        scores: Any = keras.ops.matmul(q, keras.ops.transpose(k, (0, 2, 1)))
        weights = keras.ops.softmax(scores * scale)
        return keras.Model(x, keras.ops.mean(keras.ops.matmul(weights, v), axis=1))

    return pair("attention scale", Attention, build, rows(5, 4))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 2, batch_first=True), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0][:, -1])


def gates(in_order: bool) -> xcheck.Pair:
    """A GRU whose weights are merely transposed, where PyTorch's gates are r, z, n and Keras's z, r, n."""
    kernel, bias = ("gru_kernel", "gru_bias") if in_order else ("transpose", "identity")
    weights = {
        "gru.weight_ih_l0": ("gru/gru_cell/kernel", kernel),
        "gru.weight_hh_l0": ("gru/gru_cell/recurrent_kernel", kernel),
        "gru.bias_ih_l0": ("gru/gru_cell/bias[0]", bias),
        "gru.bias_hh_l0": ("gru/gru_cell/bias[1]", bias),
        "head.weight": "head/kernel",
        "head.bias": "head/bias",
    }

    def build() -> Any:
        import keras

        x = keras.Input((3, 3))
        return keras.Model(x, keras.layers.Dense(2, name="head")(keras.layers.GRU(2, name="gru")(x)))

    return pair("gate order", Recurrent, build, rows(3, 3), weight_map=weights)


def smoothed(smoothing: float) -> xcheck.Pair:
    def loss(y: Any, logits: Any) -> Any:
        import keras

        target = keras.ops.one_hot(keras.ops.cast(y, "int32"), 3)
        made = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        return made(target, logits)

    return pair(
        "label smoothing",
        xcheck.TorchSide(
            lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), loss=nn.CrossEntropyLoss(label_smoothing=0.1)
        ),
        xcheck.KerasSide(dense(5, 3), loss=loss),
        rows(4, classes=3),
    )


def optimised(torch_optimizer: Any, keras_name: str, **settings: Any) -> xcheck.Pair:
    def optimizer() -> Any:
        import keras

        return getattr(keras.optimizers, keras_name)(**settings)

    return pair(
        "optimizer",
        xcheck.TorchSide(linear, loss=squared, optimizer=torch_optimizer),
        xcheck.KerasSide(dense(3, 2), loss="mse", optimizer=optimizer),
        rows(4),
    )


def keras_adam(**settings: Any) -> Callable[[Any], Any]:
    from xcheck.optim.torch import optimizers

    return lambda parameters: optimizers.KerasAdam(parameters, **settings)


def keras_adamw(**settings: Any) -> Callable[[Any], Any]:
    from xcheck.optim.torch import optimizers

    return lambda parameters: optimizers.KerasAdamW(parameters, **settings)


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(torch.tanh(self.layer(x))))


def tied(tie: bool) -> xcheck.Pair:
    """One layer twice against two layers that start alike."""

    def build() -> Any:
        import keras

        x = keras.Input((4,))
        start: Any = [keras.initializers.GlorotUniform(seed=1) for _ in range(2)]
        first = keras.layers.Dense(4, name="layer", kernel_initializer=start[0])
        second = keras.layers.Dense(4, name="other", kernel_initializer=start[1])
        y = (first if tie else second)(keras.ops.tanh(first(x)))
        return keras.Model(x, keras.layers.Dense(2, name="head")(y))

    return pair("lost tie", Tied, build, rows(4))


def dropped(rate: float) -> xcheck.Pair:
    return pair(
        "dropout rate",
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1), nn.Linear(3, 2)),
        stack(("Dense", (3,), {}), ("Dropout", (rate,), {}), ("Dense", (2,), {}), shape=(4,)),
        rows(4),
    )


def frozen(trainable: bool) -> xcheck.Pair:
    return pair(
        "frozen layer",
        linear,
        stack(("Dense", (3,), {"trainable": trainable}), ("Dense", (2,), {}), shape=(4,)),
        rows(4),
    )


FAULTS: dict[str, Callable[[], xcheck.Pair]] = {
    "epsilon": lambda: normalised(1e-3),
    "momentum": lambda: batch_norm(0.99),
    "padding": lambda: padded("same"),
    "scaled kernel": lambda: scaled(2.0),
    "late bias": lambda: biased(True),
    "attention scale": lambda: attention(0.25),
    "gate order": lambda: gates(False),
    "label smoothing": lambda: smoothed(0.2),
    "optimizer epsilon": lambda: optimised(keras_adam(epsilon=1e-8), "Adam", epsilon=1e-7),
    "weight decay": lambda: optimised(keras_adamw(weight_decay=0.01), "AdamW", weight_decay=0.04),
    "clipping": lambda: optimised(sgd, "SGD", learning_rate=0.1, global_clipnorm=0.5),
    "lost tie": lambda: tied(False),
    "dropout rate": lambda: dropped(0.3),
    "frozen layer": lambda: frozen(False),
}

HEALTHY: dict[str, Callable[[], xcheck.Pair]] = {
    "epsilon": lambda: normalised(1e-5),
    "momentum": lambda: batch_norm(0.9),
    "padding": lambda: padded("by hand"),
    "scaled kernel": lambda: scaled(1.0),
    "late bias": lambda: biased(False),
    "attention scale": lambda: attention(0.5),
    "gate order": lambda: gates(True),
    "label smoothing": lambda: smoothed(0.1),
    "optimizer epsilon": lambda: optimised(keras_adam(epsilon=1e-7), "Adam", epsilon=1e-7),
    "weight decay": lambda: optimised(keras_adamw(weight_decay=0.04), "AdamW", weight_decay=0.04),
    "clipping": lambda: optimised(sgd, "SGD", learning_rate=0.1),
    "lost tie": lambda: tied(True),
    "dropout rate": lambda: dropped(0.1),
    "frozen layer": lambda: frozen(True),
}


def found(made: xcheck.Pair) -> list[Any]:
    result = xcheck.check(made, steps=1, free_steps=0, precision=("float64",), reach="none")
    first = result.first_divergence
    return [str(result.verdict), first.phase if first else "", sorted({c.id for c in result.causes if c.confirmed})]


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    for name in names or FAULTS:
        print(json.dumps([name, found(FAULTS[name]()), found(HEALTHY[name]())]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
