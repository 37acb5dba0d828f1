"""One block iterated to its fixed point, with the implicit gradient, on scikit-learn's digits."""

from __future__ import annotations

from typing import Literal

import xcheck

from ..common import affine, builders, cross_entropy, flat_digits, minibatches, optimizers


def pair(
    inputs: int = 64,
    width: int = 12,
    iterations: int = 24,
    batch_size: int = 8,
    keras_gradient: Literal["implicit", "one_step", "three_steps", "unrolled"] = "implicit",
) -> xcheck.Pair:
    """The pair at any size; `keras_gradient` differentiates the last steps of the search in place of the fixed point.

    Three steps are not enough, and twenty-four are: what is cut off shrinks by the size of J with every step.
    """
    sizes = {"inputs": inputs, "width": width, "iterations": iterations}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, gradient=keras_gradient)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.1)
    torch_loss, keras_loss = cross_entropy()
    cut_off = keras_gradient in ("one_step", "three_steps")
    expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "gradient", "stopped_gradient") if cut_off else None
    if keras_gradient == "unrolled":  # the same where the search has converged, as it does not at weights of any size
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward")
    return xcheck.Pair(
        name="deep_equilibrium" + ("" if keras_gradient == "implicit" else f"_{keras_gradient}"),
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(lambda: flat_digits(inputs), batch_size),
        weight_map={
            **affine("injection", "injection"),
            "block.state.weight": ("fixed_point/block/kernel", "transpose"),
            **affine("head", "head"),
        },
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
UNROLLED = pair(keras_gradient="unrolled")
ONE_STEP = pair(keras_gradient="one_step")
THREE_STEPS = pair(keras_gradient="three_steps")
