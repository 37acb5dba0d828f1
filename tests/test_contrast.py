"""What is huge beside it hides no difference: within a tensor, between outputs, loss terms and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, FEATURES, OUTPUTS = 6, 4, 5
Make = Callable[[float], xcheck.Pair]
"""(what is planted in Keras, relative; 0 for nothing) -> a pair."""


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        mask = np.arange(SIZE * OUTPUTS).reshape(SIZE, OUTPUTS) % 3 != 0
        yield xcheck.Batch({"x": rng.standard_normal((SIZE, FEATURES)), "mask": mask}, rng.standard_normal((SIZE, 2)))


def one_layer(on_torch: Callable[[Any, Any], Any], on_keras: Callable[[Any, Any, float], Any]) -> Make:
    """A layer, and what follows it: (y, mask) on PyTorch, (y, mask, planted) on Keras."""

    def make(planted: float) -> xcheck.Pair:
        import keras
        from torch import nn

        class Torch(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(FEATURES, OUTPUTS)

            def forward(self, x: Any, mask: Any) -> Any:
                return on_torch(self.layer(x), mask)

        class Keras(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.layer = keras.layers.Dense(OUTPUTS, name="layer")

            def call(self, inputs: Any) -> Any:
                return on_keras(self.layer(inputs["x"]), inputs["mask"], planted)

        return xcheck.Pair("contrast", xcheck.TorchSide(Torch), xcheck.KerasSide(Keras), batches)

    return make


def filled(fill: float) -> Make:
    def on_torch(y: Any, mask: Any) -> Any:
        import torch

        return torch.where(mask, y, fill)

    def on_keras(y: Any, mask: Any, planted: float) -> Any:
        import keras

        return keras.ops.where(mask, y * (1 + planted), keras.ops.full_like(y, fill))

    return one_layer(on_torch, on_keras)


def added(fill: float) -> Make:
    def on_keras(y: Any, mask: Any, planted: float) -> Any:
        import keras

        kept: Any = keras.ops.cast(mask, y.dtype)
        return y * (1 + planted) + (1.0 - kept) * fill

    return one_layer(lambda y, mask: y + (1.0 - mask.to(y.dtype)) * fill, on_keras)


def scaled(exponents: tuple[float, ...]) -> Make:
    """Each output at a size of its own; the smallest is off."""
    sizes = 10.0 ** np.array(exponents)

    def on_torch(y: Any, mask: Any) -> Any:
        import torch

        return y * torch.from_numpy(sizes).to(y)

    def on_keras(y: Any, mask: Any, planted: float) -> Any:
        import keras

        wrong = np.where(sizes == sizes.min(), sizes * (1 + planted), sizes)
        return y * keras.ops.convert_to_tensor(wrong, y.dtype)

    return one_layer(on_torch, on_keras)


def two_heads(size: float, cut: bool = False) -> Make:
    """Two heads with a loss term each, one of them `size` times the other; the small one is off, or its gradient is."""

    def make(planted: float) -> xcheck.Pair:
        import keras
        import torch
        from torch import nn

        class Torch(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.main, self.aside = nn.Linear(FEATURES, 2), nn.Linear(FEATURES, 2)

            def forward(self, x: Any) -> Any:
                return {"main": self.main(x), "aside": self.aside(x)}

        def torch_loss(outputs: Any, targets: Any) -> Any:
            return {name: w * ((outputs[name] - targets) ** 2).mean() for name, w in (("main", size), ("aside", 1.0))}

        def keras_model() -> Any:
            x = keras.Input((FEATURES,))
            return keras.Model(x, {name: keras.layers.Dense(2, name=name)(x) for name in ("main", "aside")})

        def off(y_true: Any, y_pred: Any) -> Any:
            kept: Any = keras.ops.stop_gradient(y_pred)
            # Off in its value, or in its gradient alone.
            y_pred = kept + (1 + planted) * (y_pred - kept) if cut else y_pred
            mean: Any = keras.ops.mean((y_pred - y_true) ** 2)
            return mean * (1.0 if cut else 1 + planted)

        def x_of(batch: xcheck.Batch) -> Any:
            inputs: Any = batch.inputs
            return inputs["x"]

        def both(batch: xcheck.Batch) -> Any:
            return x_of(batch), {"main": batch.targets, "aside": batch.targets}

        return xcheck.Pair(
            "two heads",
            xcheck.TorchSide(
                Torch,
                loss=torch_loss,
                optimizer=lambda p: torch.optim.SGD(p, lr=0.1 / size),
                prepare=lambda b: (x_of(b), b.targets),
            ),
            xcheck.KerasSide(
                keras_model,
                loss={"main": "mean_squared_error", "aside": off},
                optimizer=lambda: keras.optimizers.SGD(0.1 / size),
                prepare=both,
                compile_options={"loss_weights": {"main": size, "aside": 1.0}},
            ),
            batches,
        )

    return make


MAKES: dict[str, tuple[Make, str]] = {
    "filled with -1e30": (filled(-1e30), "forward"),
    "filled with 1e12": (filled(1e12), "forward"),
    "-1e30 added": (added(-1e30), "forward"),
    "scales of 1e-12 to 1e12": (scaled((-12, -6, 0, 6, 12)), "forward"),
    "scales of 1 to 1e30": (scaled((0, 30, 30, 30, 30)), "forward"),
    "loss terms 1e13 apart": (two_heads(1e13), ""),
    "loss terms 1e30 apart": (two_heads(1e30), ""),
    "gradients 1e13 apart": (two_heads(1e13, cut=True), "gradient"),
    "gradients 1e30 apart": (two_heads(1e30, cut=True), "gradient"),
}


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("planted", [0.0, 1e-5, 1.0])
def test_what_is_small_is_measured_for_itself(name: str, planted: float) -> None:
    make, phase = MAKES[name]
    phases = ("forward", "loss", "gradient") if planted else None
    result = xcheck.check(make(planted), steps=1, free_steps=0, precision=("float64",), phases=phases)
    if not planted:
        assert result.verdict == "EQUIVALENT", result.report()
        return
    assert result.verdict == "DIFFERENT", result.report()
    assert result.first_divergence is not None
    assert result.first_divergence.phase == phase or not phase  # Keras reports one sum of its terms
    assert not [cause for cause in result.causes if cause.confirmed and cause.id == "float32_constant"]
