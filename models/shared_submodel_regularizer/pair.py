"""The penalty of a layer that is used several times, on scikit-learn's diabetes table.

A user reported a loss of 2.0 on inputs that are all zero, where one weight of 1.0 under L1 makes a penalty of 1.0:
the penalty had been counted once per use. `ZERO_INPUTS` is that report, `ZERO_INPUTS_FROZEN` the same with the layer
frozen. `NESTED` has the layer in two sub-models, where it trains as one and has one penalty, until the model is saved.
"""

from __future__ import annotations

import numpy as np

import xcheck

from ..common import builders, diabetes, minibatches


def pair(
    features: int = 5,
    uses: int = 2,
    trainable: bool = True,
    nested: bool = False,
    zero_inputs: bool = False,
    counted: int = 1,
) -> xcheck.Pair:
    """The pair at any size; `counted` is how often the PyTorch side counts the penalty."""
    build_torch, build_keras = builders(__name__, features=features, uses=uses, trainable=trainable, nested=nested)

    def data():
        table, progress = diabetes()
        inputs = table[:, np.resize(np.arange(table.shape[1]), features * uses)]  # the columns, as often as it takes
        if zero_inputs:
            inputs, progress = np.zeros_like(inputs), np.zeros_like(progress)
        return tuple(np.split(inputs, uses, axis=1)), progress

    def penalty(model):
        from .torch_model import penalty as l1

        return {"models.0.0.weight": counted * l1(model)} if trainable else {}

    def torch_loss(outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def torch_optimizer(parameters):
        import torch

        return torch.optim.SGD(parameters, lr=0.01)

    def keras_optimizer():
        import keras

        return keras.optimizers.SGD(learning_rate=0.01)

    expect = None
    if counted != 1:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "loss", "penalty_factor")
    elif nested:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "persistence", "penalty_per_copy")
    variant = ["zero_inputs"] * zero_inputs + ["frozen"] * (not trainable) + ["nested"] * nested
    variant += [f"{uses}_uses"] * (uses != 2) + [f"counted_{counted}_times"] * (counted != 1)
    return xcheck.Pair(
        name="_".join(["shared_submodel_regularizer", *variant]),
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, penalty=penalty),
        keras=xcheck.KerasSide(build_keras, loss="mean_squared_error", optimizer=keras_optimizer),
        batches=minibatches(data),
        weight_map={"models.0.0.weight": "shared_0/dense/kernel", "head.weight": "head/kernel"},
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
FROZEN = pair(trainable=False)
THREE_USES = pair(uses=3)
NESTED = pair(nested=True)
ZERO_INPUTS = pair(features=1, zero_inputs=True)
ZERO_INPUTS_FROZEN = pair(features=1, zero_inputs=True, trainable=False)
COUNTED_PER_USE = pair(features=1, zero_inputs=True, counted=2)
