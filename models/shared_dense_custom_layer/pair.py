"""A custom layer that owns one kernel and is called twice, on scikit-learn's digits.

As it was asked about, with 784 inputs and 64 units, it cannot run: `--set inputs=784` says why.
"""

from __future__ import annotations

import xcheck

from ..common import affine, builders, categorical_crossentropy, flat_digits, minibatches, optimizers


def pair(inputs: int = 64, units: int = 64, uses: int = 2) -> xcheck.Pair:
    """The pair at any size; it runs where there are as many units as inputs, 784 being the original's inputs."""
    build_torch, build_keras = builders(__name__, inputs=inputs, units=units, uses=uses)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)
    return xcheck.Pair(
        name="shared_dense_custom_layer" + ("" if uses == 2 else f"_{uses}_uses"),
        torch=xcheck.TorchSide(build_torch, loss=categorical_crossentropy, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss="sparse_categorical_crossentropy", optimizer=keras_optimizer),
        batches=minibatches(lambda: flat_digits(inputs)),
        weight_map={
            "shared.weight": ("shared/kernel", "identity"),
            "shared.bias": "shared/bias",
            **affine("head", "head"),
        },
        also=("persistence", "export"),
    )


PAIR = pair()
THREE_USES = pair(uses=3)
