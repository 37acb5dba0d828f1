"""One recurrent block applied three times with a loss after each, on scikit-learn's digits with noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import xcheck

from ..common import affine, builders, channels_first, digits, optimizers


def noisy_digits(image_size: int, batch_size: int):
    """Batches of images (B, H, W, 1) under noise, and what they were (B, 1, H, W)."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        images, _ = digits(image_size)
        rng = np.random.default_rng(seed)
        while True:
            clean = images[rng.choice(len(images), batch_size, replace=False)]
            yield xcheck.Batch(clean + 0.3 * rng.standard_normal(clean.shape), np.moveaxis(clean, -1, 1))

    return batches


def pair(
    image_size: int = 8,
    channels: int = 4,
    iterations: int = 3,
    batch_size: int = 4,
    gamma: float = 0.8,
    keras_detached: bool = True,
    keras_newest_first: bool = False,
) -> xcheck.Pair:
    """The pair at any size; the original has iterations=12.

    The port may let the gradient run on between the iterations (`keras_detached=False`), or weight the losses from the
    wrong end.
    """
    sizes = {"channels": channels, "iterations": iterations}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, detached=keras_detached)
    torch_optimizer, keras_optimizer = optimizers("AdamW", learning_rate=1e-3, weight_decay=1e-4, clipnorm=1.0)

    def torch_loss(estimates, truth):
        from .torch_model import sequence_loss

        return sequence_loss(estimates, truth, gamma)

    def keras_loss(truth, estimates):
        from .keras_model import sequence_loss

        return sequence_loss(truth, estimates, iterations, gamma, keras_newest_first)

    weight_map = affine("features", "features") | affine("start", "start")
    for layer in ("update", "reset", "candidate", "change"):
        weight_map |= affine(f"block.{layer}", f"block/{layer}")
    expect = None
    if not keras_detached:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "gradient", "stopped_gradient")
    elif keras_newest_first:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "loss", "loss_weights")
    return xcheck.Pair(
        name="iterative_refinement" + "_not_detached" * (not keras_detached) + "_newest_first" * keras_newest_first,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=noisy_digits(image_size, batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
NOT_DETACHED = pair(keras_detached=False)
NEWEST_FIRST = pair(keras_newest_first=True)
