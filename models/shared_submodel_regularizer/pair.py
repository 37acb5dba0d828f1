"""The penalty of a layer that is used several times, on scikit-learn's diabetes table.

A user reported a loss of 2.0 on inputs that are all zero, where one weight of 1.0 under L1 makes a penalty of 1.0:
the penalty had been counted once per use. `ZERO_INPUTS` is that report.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import xcheck


def table(features: int, uses: int, zero_inputs: bool, batch_size: int = 16):
    """Batches of `uses` arrays (B, D) of the table's columns, and the disease progression (B, 1) in 0..1."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        from sklearn.datasets import load_diabetes

        data: Any = load_diabetes()
        columns = np.resize(np.arange(data.data.shape[1]), features * uses)
        inputs, targets = data.data[:, columns] * 10, data.target[:, None] / 350
        if zero_inputs:
            inputs, targets = np.zeros_like(inputs), np.zeros_like(targets)
        rng = np.random.default_rng(seed)
        while True:
            chosen = rng.choice(len(inputs), batch_size, replace=False)
            yield xcheck.Batch(tuple(np.split(inputs[chosen], uses, axis=1)), targets[chosen])

    return batches


def pair(
    features: int = 5, uses: int = 2, trainable: bool = True, zero_inputs: bool = False, counted: int = 1
) -> xcheck.Pair:
    """The pair at any size; `counted` is how often the PyTorch side counts the penalty."""
    sizes = {"features": features, "uses": uses, "trainable": trainable}

    def build_torch():
        from .torch_model import Config, build

        return build(Config(**sizes))

    def build_keras():
        from .keras_model import Config, build

        return build(Config(**sizes))

    def penalty(model):
        from .torch_model import penalty as l1

        return {"shared.weight": counted * l1(model)} if trainable else {}

    def torch_loss(outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def torch_optimizer(parameters):
        import torch

        return torch.optim.SGD(parameters, lr=0.01)

    def keras_optimizer():
        import keras

        return keras.optimizers.SGD(learning_rate=0.01)

    variant = ["frozen"] * (not trainable) + ["zero_inputs"] * zero_inputs
    variant += [f"{uses}_uses"] * (uses != 2) + [f"counted_{counted}_times"] * (counted != 1)
    return xcheck.Pair(
        name="_".join(["shared_submodel_regularizer", *variant]),
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, penalty=penalty),
        keras=xcheck.KerasSide(build_keras, loss="mean_squared_error", optimizer=keras_optimizer),
        batches=table(features, uses, zero_inputs),
        weight_map={"shared.weight": "shared/dense/kernel", "head.weight": "head/kernel"},
    )


PAIR = pair()
FROZEN = pair(trainable=False)
THREE_USES = pair(uses=3)
ZERO_INPUTS = pair(features=1, zero_inputs=True)
COUNTED_PER_USE = pair(features=1, zero_inputs=True, counted=2)
