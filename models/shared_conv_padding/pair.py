"""One kernel with two paddings, on scikit-learn's digits in three equal colours: is the digit even?

`AS_WRITTEN` takes the unbounded output for a probability, as the setup did that this pair came from.
"""

from __future__ import annotations

import numpy as np

import xcheck

from ..common import affine, builders, channels_first, digits, enlarged, minibatches, optimizers


def pair(image_size: int = 12, filters: int = 8, batch_size: int = 16, from_logits: bool = True) -> xcheck.Pair:
    """The pair at any size.

    Args:
        image_size: 299 in the original.
        filters: 64 in the original.
        batch_size: rows per batch.
        from_logits: how the loss reads the output; False is the original.
    """
    build_torch, uncompiled = builders(__name__, image_size=image_size, filters=filters)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def data():
        images, labels = digits()
        return images - images.mean(axis=0), (labels[:, None] % 2 == 0).astype(np.float64)  # outputs around zero

    def coloured(images):
        return np.repeat(enlarged(images, image_size), 3, axis=-1)

    def torch_loss(outputs, targets):
        from torch.nn import functional as F

        if from_logits:
            return F.binary_cross_entropy_with_logits(outputs, targets)
        # Keras clips what it takes for a probability. Where it does, the gradient is zero.
        return F.binary_cross_entropy(outputs.clamp(1e-7, 1 - 1e-7), targets)

    def build_keras():
        import keras

        model = uncompiled()
        loss = keras.losses.BinaryCrossentropy(from_logits=from_logits)  # unlike a function, it can be saved
        model.compile(optimizer=keras_optimizer(), loss=loss)
        return model

    return xcheck.Pair(
        name="shared_conv_padding" + ("" if from_logits else "_as_written"),
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras),
        batches=minibatches(data, batch_size, coloured),
        weight_map={
            "same.weight": ("shared_conv/kernel", "conv"),
            "same.bias": "shared_conv/bias",
            **affine("head", "head"),
        },
        ties=[["same.weight", "valid.weight"], ["same.bias", "valid.bias"]],
        also=("persistence", "export"),
    )


PAIR = pair()
AS_WRITTEN = pair(from_logits=False)
