"""One initializer object for three layers, on scikit-learn's digits."""

from __future__ import annotations

import xcheck

from ..common import affine, builders, categorical_crossentropy, flat_digits, minibatches, one_hot, optimizers


def pair(image_size: int = 8, initializer: str = "one") -> xcheck.Pair:
    """The pair at any size, 28 being the original; `initializer` is "one" for all layers, or "one_each"."""
    build_torch, build_keras = builders(__name__, inputs=image_size**2, initializer=initializer)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def data():
        rows, labels = flat_digits(image_size**2)
        return rows, one_hot(labels, 10)

    return xcheck.Pair(
        name="shared_initializer" + ("" if initializer == "one" else f"_{initializer}"),
        torch=xcheck.TorchSide(build_torch, loss=categorical_crossentropy, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss="categorical_crossentropy", optimizer=keras_optimizer),
        batches=minibatches(data),
        weight_map={**affine("layers.0", "dense_0"), **affine("layers.1", "dense_1"), **affine("layers.2", "dense_2")},
        also=("persistence", "export"),
    )


PAIR = pair()
ONE_EACH = pair(initializer="one_each")
