"""Three dilations of one kernel on scikit-learn's digits, 8x8 padded to 10x10."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import xcheck


def digits(image_size: int, per_pixel: bool, batch_size: int = 16):
    """Batches of digits: images (B, H, W, 1) in 0..1 and labels (B,), or (B, H, W) for a label per pixel."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        from sklearn.datasets import load_digits

        data: Any = load_digits()
        margin = image_size - 8
        pad = ((0, 0), (margin // 2, margin - margin // 2), (margin // 2, margin - margin // 2), (0, 0))
        images = np.pad(data.images[..., None] / 16.0, pad)
        labels = data.target.astype(np.int64)
        if per_pixel:
            labels = np.broadcast_to(labels[:, None, None], images.shape[:3]).copy()
        rng = np.random.default_rng(seed)
        while True:
            chosen = rng.choice(len(images), batch_size, replace=False)
            yield xcheck.Batch(images[chosen], labels[chosen])

    return batches


def channels_first(batch):
    """Images as PyTorch eats them: (B, H, W, C) -> (B, C, H, W)."""
    return np.moveaxis(batch.inputs, -1, 1), batch.targets


def pair(image_size: int = 10, head: str = "flat", plain_adam: bool = False) -> xcheck.Pair:
    """The pair at any size; `plain_adam` trains the PyTorch side by PyTorch's own formula, which is another."""
    sizes = {"image_size": image_size, "head": head}

    def build_torch():
        from .torch_model import Config, build

        return build(Config(**sizes))

    def build_keras():
        from .keras_model import Config, build

        return build(Config(**sizes))

    def torch_loss(probabilities, labels):
        from torch.nn import functional as F

        # Keras takes the logits of a softmax it can see behind the probabilities; this is the same number.
        return F.nll_loss(probabilities.log().reshape(-1, probabilities.shape[-1]), labels.reshape(-1))

    def torch_optimizer(parameters):
        if plain_adam:
            import torch

            return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)
        from xcheck.optim.like_keras import KerasAdam

        return KerasAdam(parameters, learning_rate=1e-3)

    def keras_optimizer():
        import keras

        return keras.optimizers.Adam(learning_rate=1e-3)

    return xcheck.Pair(
        name="shared_dilated_conv" + ("" if head == "flat" else "_as_written") + ("_plain_adam" if plain_adam else ""),
        torch=xcheck.TorchSide(
            build_torch,
            loss=torch_loss,
            optimizer=torch_optimizer,
            prepare=channels_first,
        ),
        keras=xcheck.KerasSide(build_keras, loss="sparse_categorical_crossentropy", optimizer=keras_optimizer),
        batches=digits(image_size, per_pixel=head == "per_pixel"),
        weight_map={
            "branches.0.weight": ("shared_conv/kernel", "conv"),
            "branches.0.bias": "shared_conv/bias",
            "head.weight": "head/kernel",
            "head.bias": "head/bias",
        },
        ties=[
            ["branches.0.weight", "branches.1.weight", "branches.2.weight"],
            ["branches.0.bias", "branches.1.bias", "branches.2.bias"],
        ],
    )


PAIR = pair()
AS_WRITTEN = pair(head="per_pixel")
PLAIN_ADAM = pair(plain_adam=True)
