"""One encoder with batch normalization for two views of an image, on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

import xcheck

from ..common import builders, digits, optimizers


def views(batch_size: int):
    """Batches of two views (B, D) each: the digit shifted by up to a pixel, in another light; and the wish (B, 2)."""

    def view(images, rng: np.random.Generator):
        shifts = rng.integers(-1, 2, (len(images), 2))
        moved = [np.roll(image, tuple(shift), (0, 1)) for image, shift in zip(images, shifts, strict=True)]
        return np.stack(moved).reshape(len(images), -1) * rng.uniform(0.6, 1.4, (len(images), 1))

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        images = digits()[0][..., 0]
        rng = np.random.default_rng(seed)
        while True:
            chosen = images[rng.choice(len(images), batch_size, replace=False)]
            yield xcheck.Batch((view(chosen, rng), view(chosen, rng)), np.ones((batch_size, 2)))

    return batches


def pair(
    hidden: int = 16,
    code: int = 8,
    predictor: int = 4,
    batch_size: int = 8,
    keras_convention: Literal["pytorch", "biased", "momentum", "keras"] = "pytorch",
    keras_concatenated: bool = False,
    keras_functional: bool = False,
) -> xcheck.Pair:
    """The pair at any size; the original has a ResNet-50 and hidden=2048, code=2048, predictor=512, batch_size=512.

    `keras_convention`, `keras_concatenated` and `keras_functional` are what goes wrong in a port.
    """
    sizes = {"hidden": hidden, "code": code, "predictor": predictor}
    build_torch, _ = builders(__name__, **sizes)
    wrong = {"convention": keras_convention, "concatenated": keras_concatenated, "functional": keras_functional}
    _, build_keras = builders(__name__, **sizes, **wrong)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.05, momentum=0.9)

    def torch_loss(similarity, wish):
        return -(wish * similarity).mean()

    def keras_loss(wish, similarity):
        return -wish * similarity

    weight_map = {
        "encoder.0.linear.weight": "hidden_linear/kernel",
        "encoder.0.norm.weight": "hidden_norm/gamma",
        "encoder.0.norm.bias": "hidden_norm/beta",
        "encoder.2.linear.weight": "code_linear/kernel",
        # A norm without parameters has to be told which statistics are its own.
        "encoder.2.norm.running_mean": "code_norm/moving_mean",
        "encoder.2.norm.running_var": "code_norm/moving_variance",
        "predictor.0.linear.weight": "guess_linear/kernel",
        "predictor.0.norm.weight": "guess_norm/gamma",
        "predictor.0.norm.bias": "guess_norm/beta",
        "predictor.2.weight": "prediction/kernel",
        "predictor.2.bias": "prediction/bias",
    }
    expect = None
    if keras_concatenated or keras_convention == "keras":
        cause = "joined_batches" if keras_concatenated else "epsilon"
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", cause)
    elif keras_convention != "pytorch" or keras_functional:
        causes = {"biased": "biased_variance", "momentum": "momentum_convention", "pytorch": "call_order"}
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "state", causes[keras_convention])
    variant = {"pytorch": "", "keras": "_keras_defaults"}.get(keras_convention, f"_{keras_convention}")
    return xcheck.Pair(
        name="shared_batchnorm" + variant + "_concatenated" * keras_concatenated + "_functional" * keras_functional,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=views(batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
BIASED = pair(keras_convention="biased")
MOMENTUM = pair(keras_convention="momentum")
KERAS_DEFAULTS = pair(keras_convention="keras")
CONCATENATED = pair(keras_concatenated=True)
FUNCTIONAL = pair(keras_functional=True)
