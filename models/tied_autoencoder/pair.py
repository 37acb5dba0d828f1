"""An autoencoder whose decoder is its encoder transposed, on scikit-learn's digits."""

from __future__ import annotations

from typing import Literal

import xcheck

from ..common import builders, digits, minibatches, optimizers


def pair(
    image_size: int = 8,
    hidden: tuple[int, ...] = (64, 16),
    batch_size: int = 8,
    keras_decoder: Literal["reversed", "untransposed", "borrowed"] = "reversed",
) -> xcheck.Pair:
    """The pair at any size; the original has image_size=28 and three hidden layers of 1000.

    `keras_decoder` names what goes wrong in a port: a square kernel that is not transposed, a tie lost on saving.
    """
    sizes = {"widths": (image_size**2, *hidden)}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, decoder=keras_decoder)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.1)

    def data():
        images = digits(image_size)[0].reshape(-1, image_size**2)
        return images, images

    def torch_loss(logits, pixels):
        from torch.nn import functional as F

        return F.binary_cross_entropy_with_logits(logits, pixels)

    def keras_loss(pixels, logits):
        import keras

        return keras.losses.binary_crossentropy(pixels, logits, from_logits=True)

    weight_map: dict[str, str | tuple[str, str]] = {}
    for i in range(len(hidden)):
        weight_map[f"layers.{i}.forwards.weight"] = (f"layer_{i}/kernel", "transpose")
        weight_map[f"layers.{i}.forwards.bias"] = f"layer_{i}/bias"
        decoder = f"decoder_{i}" if keras_decoder == "borrowed" else f"layer_{i}"
        weight_map[f"layers.{i}.reverse_bias"] = f"{decoder}/reverse_bias"
    expect = {
        "reversed": None,
        "untransposed": xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "transposed_kernel"),
        "borrowed": xcheck.Expectation(xcheck.Verdict.DIFFERENT, "persistence", "tie_lost_on_save"),
    }
    return xcheck.Pair(
        name="tied_autoencoder" + ("" if keras_decoder == "reversed" else f"_{keras_decoder}"),
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(data, batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect[keras_decoder],
    )


PAIR = pair()
UNTRANSPOSED = pair(keras_decoder="untransposed")
BORROWED = pair(keras_decoder="borrowed")
