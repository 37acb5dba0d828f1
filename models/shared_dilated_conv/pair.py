"""Three dilations of one kernel on scikit-learn's digits, 8x8 padded to 10x10."""

from __future__ import annotations

import numpy as np

import xcheck

from ..common import builders, categorical_crossentropy, channels_first, digits, minibatches, optimizers


def pair(image_size: int = 10, head: str = "flat", plain_adam: bool = False) -> xcheck.Pair:
    """The pair at any size; `plain_adam` trains the PyTorch side by PyTorch's own formula, which is another."""
    build_torch, build_keras = builders(__name__, image_size=image_size, head=head)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def data():
        images, labels = digits(image_size)
        if head == "per_pixel":  # a label for each pixel
            labels = np.broadcast_to(labels[:, None, None], images.shape[:3])
        return images, labels

    def torch_adam(parameters):
        import torch

        return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)

    return xcheck.Pair(
        name="shared_dilated_conv" + ("" if head == "flat" else "_as_written") + ("_plain_adam" if plain_adam else ""),
        torch=xcheck.TorchSide(
            build_torch,
            loss=categorical_crossentropy,
            optimizer=torch_adam if plain_adam else torch_optimizer,
            prepare=channels_first,
        ),
        keras=xcheck.KerasSide(build_keras, loss="sparse_categorical_crossentropy", optimizer=keras_optimizer),
        batches=minibatches(data),
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
        also=("persistence", "export"),
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "update", "optimizer_formula") if plain_adam else None,
    )


PAIR = pair()
AS_WRITTEN = pair(head="per_pixel")
PLAIN_ADAM = pair(plain_adam=True)
