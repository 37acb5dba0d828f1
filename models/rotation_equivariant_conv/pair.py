"""One filter used at four rotations, on scikit-learn's digits."""

from __future__ import annotations

import xcheck

from ..common import builders, channels_first, cross_entropy, digits, minibatches, optimizers


def pair(
    image_size: int = 8, filters: int = 6, batch_size: int = 8, keras_axes: tuple[int, int] = (0, 1)
) -> xcheck.Pair:
    """The pair at any size; the original's layers have filters=10 on images of image_size=28.

    `keras_axes` is what goes wrong in a port: axes 2 and 3 of PyTorch's layout, or the other direction.
    """
    build_torch, _ = builders(__name__, filters=filters)
    _, build_keras = builders(__name__, filters=filters, axes=keras_axes)
    torch_loss, keras_loss = cross_entropy()
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)
    variant = {(0, 1): "", (2, 3): "_torch_axes", (1, 0): "_other_way"}[keras_axes]
    return xcheck.Pair(
        name="rotation_equivariant_conv" + variant,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(lambda: digits(image_size), batch_size),
        weight_map={
            "stem.weight": "stem/kernel",
            "stem.bias": "stem/bias",
            "rotated.weight": ("rotated/kernel", "conv"),
            "rotated.bias": "rotated/bias",
            "head.weight": "head/kernel",
            "head.bias": "head/bias",
        },
        also=("persistence", "export"),
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "turned_weight") if variant else None,
    )


PAIR = pair()
TORCH_AXES = pair(keras_axes=(2, 3))
OTHER_WAY = pair(keras_axes=(1, 0))
