"""Pairs of one layer that differs, with what is looked into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import xcheck

IMAGE, SEQUENCE, ROW, IDS = (2, 7, 6, 4), (2, 6, 8), (5, 6), (3, 5)


@dataclass(frozen=True)
class Case:
    """One layer in both frameworks that differs in one thing.

    Attributes:
        cause: expected id.
        torch, keras: build the layer.
        shape: of the input, channels last.
        words: that the summary has.
        map: role in torch -> role in keras.
        layout: of the first of them.
    """

    cause: str
    torch: Callable[[Any], Any]
    keras: Callable[[Any, Any], Any]
    shape: tuple[int, ...] = SEQUENCE
    words: tuple[str, ...] = ()
    map: dict[str, Any] = field(default_factory=dict)


def as_module(function: Callable[[Any], Any]) -> Any:
    import torch

    class Own(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    return Own()


def pair_of(case: Case, spoilt: bool = False) -> xcheck.Pair:
    """The layer of both sides between nothing and a tanh; `spoilt`: with one more difference that has no name."""

    def build_torch() -> Any:
        import torch

        return torch.nn.Sequential(case.torch(torch), torch.nn.Tanh())

    def build_keras() -> Any:
        import keras

        inputs = keras.Input(case.shape[1:])
        x = case.keras(keras, inputs)
        if spoilt:
            x = x + 1e-4 * keras.ops.sin(1e3 * x)
        return keras.Model(inputs, keras.ops.tanh(x))

    def prepare(batch: Any) -> Any:
        first = len(case.shape) == 4 or any("Conv1d" in str(m) for m in build_torch().modules())
        return np.moveaxis(batch.inputs, -1, 1) if first else batch.inputs, None

    def outputs(y: Any) -> Any:
        moved = len(case.shape) == 4 or any("Conv1d" in str(m) for m in build_torch().modules())
        return y.movedim(1, -1) if moved else y

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal(case.shape))

    names = {f"0.{mine}": theirs for mine, theirs in case.map.items()}
    return xcheck.Pair(
        name="case",
        torch=xcheck.TorchSide(build_torch, prepare=prepare, outputs=outputs),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={
            mine: f"layer/{theirs}" if isinstance(theirs, str) else (f"layer/{theirs[0]}", *theirs[1:])
            for mine, theirs in names.items()
        },
    )


def looked_into(pair: xcheck.Pair) -> xcheck.Result:
    phases = ("inventory", "sync", "forward")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)
