"""Does a shared initializer object share weights? Two dense layers on scikit-learn's digits.

`PAIR` is that claim, held against a PyTorch model that does share, and it is false. `CORRECTED` shares in Keras too;
`TWO_LAYERS` is what the claimed model really is: two layers that start equal.
"""

from __future__ import annotations

import xcheck

from ..common import affine, builders, categorical_crossentropy, flat_digits, minibatches, optimizers


def pair(units: int = 64, torch: str = "same_layer", keras: str = "same_initializer") -> xcheck.Pair:
    """The pair at any size; `torch` and `keras` say what the second layer is on each side."""
    build_torch, _ = builders(__name__, units=units, second=torch)
    _, build_keras = builders(__name__, units=units, second=keras)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)
    claimed = torch != keras
    variant = "" if claimed else "_corrected" if keras == "same_layer" else "_two_layers"
    weight_map = {**affine("dense", "net/dense"), **affine("head", "net/head")}
    if claimed:  # PyTorch's one layer is two in Keras
        weight_map |= {
            f"dense.{t}": [f"net/dense/{k}", f"net/other/{k}"] for t, k in (("weight", "kernel"), ("bias", "bias"))
        }
    elif keras == "same_initializer":
        weight_map |= affine("other", "net/other")
    return xcheck.Pair(
        name=f"shared_dense_subclass{variant}",
        torch=xcheck.TorchSide(build_torch, loss=categorical_crossentropy, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss="sparse_categorical_crossentropy", optimizer=keras_optimizer),
        batches=minibatches(lambda: flat_digits(units)),
        weight_map=weight_map,
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "inventory", "equal_but_untied") if claimed else None,
        also=("persistence", "export"),
    )


PAIR = pair()
CORRECTED = pair(keras="same_layer")
TWO_LAYERS = pair(torch="same_initializer")
