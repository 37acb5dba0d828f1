"""Models of both frameworks for matching: small, and wrong in ways that a checkpoint would not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import xcheck

WIDTH = 8


def vectors(seed: int) -> Iterator[xcheck.Batch]:
    """Gaussian inputs (B, 8)."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((6, WIDTH)))


def sequences(seed: int) -> Iterator[xcheck.Batch]:
    """Gaussian inputs (B, 5, 8)."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((3, 5, WIDTH)))


def torch_model(make: Callable[[Any], dict[str, Any]], forward: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """A module with the submodules and parameters that `make(torch)` returns."""

    def build() -> Any:
        import torch

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, part in make(torch).items():
                    setattr(self, name, part)

            def forward(self, x: Any) -> Any:
                return forward(self, x)

        return Model()

    return build


def keras_model(
    make: Callable[[Any], dict[str, Any]],
    call: Callable[[Any, Any], Any],
    weights: dict[str, tuple[int, ...]] | None = None,
) -> Callable[[], Any]:
    """A subclassed model with the layers that `make(keras)` returns, and weights of its own."""

    def build() -> Any:
        import keras

        class Model(keras.Model):
            def __init__(self) -> None:
                super().__init__(name="m")
                for name, part in make(keras).items():
                    setattr(self, name, part)

            def build(self, shape: Any) -> None:
                for name, size in (weights or {}).items():
                    setattr(self, name, self.add_weight(shape=size, name=name, initializer="glorot_uniform"))

            def call(self, x: Any) -> Any:
                return call(self, x)

        return Model()

    return build


def pair(torch: Any, keras: Any, batches: Any = vectors, **options: Any) -> xcheck.Pair:
    """Two models without a map, a loss or an optimizer."""
    sides = {"torch": xcheck.TorchSide(torch), "keras": xcheck.KerasSide(keras)}
    return xcheck.Pair(**{"name": "unmapped", "batches": batches, **sides, **options})


def run(made: xcheck.Pair, steps: int = 1) -> xcheck.Result:
    """The phases that need no second build."""
    return xcheck.check(made, steps=steps, free_steps=0, precision=("float64",))


def matched(result: xcheck.Result) -> dict[str, str]:
    """PyTorch name -> Keras name of every match, as the inventory lists them."""
    return {
        c.torch: c.keras
        for c in result.checks
        if c.phase == "inventory" and c.torch and c.keras and ("by value" in c.detail or "by structure" in c.detail)
    }
