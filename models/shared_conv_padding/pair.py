"""One kernel with two paddings, on scikit-learn's digits in three equal colours: is the digit a zero?

`AS_WRITTEN` takes the unbounded output for a probability, as the setup did that this pair came from. `PATCHED` shares
as that setup did: it trains as one kernel, until the model is saved.
"""

from __future__ import annotations

import numpy as np

import xcheck

from ..common import affine, builders, channels_first, digits, enlarged, minibatches, optimizers


def pair(
    image_size: int = 12,
    filters: int = 8,
    batch_size: int = 16,
    from_logits: bool = True,
    sharing: str = "one_layer",
) -> xcheck.Pair:
    """The pair at any size.

    Args:
        image_size: 299 in the original.
        filters: 64 in the original.
        batch_size: rows per batch.
        from_logits: how the loss reads the output; False is the original.
        sharing: in Keras, by "one_layer", or "patched" as in the original.
    """
    build_torch, uncompiled = builders(__name__, image_size=image_size, filters=filters, sharing=sharing)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def data():
        images, labels = digits()
        grey = 16 * (images - images.mean(axis=0))  # so that outputs start on both sides of 0
        return grey, (labels[:, None] == 0).astype(np.float64)

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

    patched = sharing == "patched"
    expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "persistence", "tie_lost_on_save")
    shared = "same" if patched else "shared_conv"
    return xcheck.Pair(
        name="shared_conv_padding" + "_as_written" * (not from_logits) + "_patched" * patched,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras),
        batches=minibatches(data, batch_size, coloured),
        weight_map={
            "same.weight": (f"{shared}/kernel", "conv"),
            "same.bias": f"{shared}/bias",
            **affine("head", "head"),
        },
        ties=[["same.weight", "valid.weight"], ["same.bias", "valid.bias"]],
        expect=expect if patched else None,
        also=("persistence", "export"),
    )


PAIR = pair()
AS_WRITTEN = pair(from_logits=False)
PATCHED = pair(sharing="patched")
