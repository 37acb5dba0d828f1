"""Two layers with a penalty each and one without, on scikit-learn's digits.

`WEIGHT_DECAY` is what a port often makes of L2: the optimizer's weight decay by the same factor.
"""

from __future__ import annotations

import xcheck

from ..common import affine, builders, categorical_crossentropy, flat_digits, minibatches, one_hot, optimizers

L2, L1 = 0.01, 0.005


def pair(image_size: int = 8, weight_decay: bool = False) -> xcheck.Pair:
    """The pair at any size, 28 being the original; `weight_decay` takes PyTorch's in place of the L2 penalty."""
    build_torch, build_keras = builders(__name__, inputs=image_size**2, l2=L2, l1=L1)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def data():
        rows, labels = flat_digits(image_size**2)
        return rows, one_hot(labels, 10)

    def penalty(model):
        from .torch_model import penalties

        terms = penalties(model)
        return {"second.weight": terms["second.weight"]} if weight_decay else terms

    def decaying_adam(parameters):
        import torch

        first, *others = parameters
        return torch.optim.Adam([{"params": [first], "weight_decay": L2}, {"params": others}], lr=1e-3, eps=1e-7)

    return xcheck.Pair(
        name="independent_regularizers" + ("_weight_decay" if weight_decay else ""),
        torch=xcheck.TorchSide(
            build_torch,
            loss=categorical_crossentropy,
            optimizer=decaying_adam if weight_decay else torch_optimizer,
            penalty=penalty,
        ),
        keras=xcheck.KerasSide(build_keras, loss="categorical_crossentropy", optimizer=keras_optimizer),
        batches=minibatches(data),
        weight_map={**affine("first", "first"), **affine("second", "second"), **affine("last", "last")},
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "loss", "penalty_missing") if weight_decay else None,
        also=("persistence", "export"),
    )


PAIR = pair()
WEIGHT_DECAY = pair(weight_decay=True)
