"""One network at two widths that share their kernels, on scikit-learn's digits."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

import xcheck

from ..common import builders, channels_first, digits, minibatches, optimizers


def pair(
    image_size: int = 8,
    channels: int = 8,
    widths: tuple[int, ...] = (4, 8),
    batch_size: int = 8,
    keras_slices: Literal["first", "last"] = "first",
    keras_averaged: bool = False,
) -> xcheck.Pair:
    """The pair at any size; `keras_slices` takes the wrong channels, `keras_averaged` the mean loss of the widths.

    The loss of each width is averaged over the batch, and the widths are added up.
    """
    sizes = {"channels": channels, "widths": widths}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, slices=keras_slices)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.1, momentum=0.9)

    def data():
        images, labels = digits(image_size)
        return images, np.repeat(labels[:, None], len(widths), axis=1)

    def torch_loss(logits, labels):
        from torch.nn import functional as F

        return F.cross_entropy(logits.flatten(0, 1), labels.flatten()) * len(widths)

    def keras_loss(labels, logits):
        import keras

        each: Any = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)  # (B, widths)
        return keras.ops.mean(each, axis=-1) if keras_averaged else keras.ops.sum(each, axis=-1)

    weight_map = {
        "conv_0.whole.weight": ("conv_0/kernel", "conv"),
        "conv_1.whole.weight": ("conv_1/kernel", "conv"),
        "head.whole.weight": ("head/kernel", "transpose"),
        "head.whole.bias": "head/bias",
    }
    for layer in (0, 1):
        for i in range(len(widths)):
            weight_map[f"norms_{layer}.{i}.weight"] = f"norms_{layer}_{i}/gamma"
            weight_map[f"norms_{layer}.{i}.bias"] = f"norms_{layer}_{i}/beta"
    expect = None
    if keras_slices == "last":
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "slice")
    elif keras_averaged:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "loss", "reduction")
    return xcheck.Pair(
        name="slimmable" + "_last_channels" * (keras_slices == "last") + "_averaged" * keras_averaged,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(data, batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
LAST_CHANNELS = pair(keras_slices="last")
AVERAGED = pair(keras_averaged=True)
