"""One encoder for two images and a contrastive loss, on pairs of scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import xcheck

from ..common import builders, channels_first, digits, optimizers


def pairs_of_digits(image_size: int, batch_size: int):
    """Batches of two images (B, H, H, 1) each and whether they show the same digit, (B, 1); about half of them do."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        images, labels = digits(image_size)
        rng = np.random.default_rng(seed)
        while True:
            left = rng.choice(len(images), batch_size, replace=False)
            twins = [rng.choice(np.flatnonzero(labels == labels[i])) for i in left]
            right = np.where(rng.random(batch_size) < 0.5, twins, rng.choice(len(images), batch_size))
            same = (labels[left] == labels[right]).astype(np.float64)[:, None]
            yield xcheck.Batch((images[left], images[right]), same)

    return batches


def pair(
    image_size: int = 8,
    filters: int = 6,
    embedding: int = 5,
    batch_size: int = 8,
    keras_concatenated: bool = False,
) -> xcheck.Pair:
    """The pair at any size; `keras_concatenated` makes one call of the two, which is another computation."""
    sizes = {"image_size": image_size, "filters": filters, "embedding": embedding}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, concatenated=keras_concatenated)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.05)

    def torch_loss(distance, same):
        from .torch_model import contrastive_loss

        return contrastive_loss(distance, same)

    def keras_loss(same, distance):
        from .keras_model import contrastive_loss

        return contrastive_loss(same, distance)

    return xcheck.Pair(
        name="siamese" + "_concatenated" * keras_concatenated,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=pairs_of_digits(image_size, batch_size),
        weight_map={
            "encoder.conv.weight": "conv/kernel",
            "encoder.conv.bias": "conv/bias",
            "encoder.norm.weight": "norm/gamma",
            "encoder.norm.bias": "norm/beta",
            "encoder.head.weight": "head/kernel",
        },
        also=("persistence", "export"),
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "joined_batches")
        if keras_concatenated
        else None,
    )


PAIR = pair()
CONCATENATED = pair(keras_concatenated=True)
