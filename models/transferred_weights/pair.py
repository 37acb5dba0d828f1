"""Is copying a trained layer's weights into the others as good as sharing them? On scikit-learn's digits.

`PAIR` is that workaround: equal right after the copy, and another training. `CORRECTED` shares the layer.
"""

from __future__ import annotations

import xcheck

from ..common import affine, builders, categorical_crossentropy, flat_digits, minibatches, optimizers


def pair(units: int = 64, uses: int = 3, sharing: str = "transferred") -> xcheck.Pair:
    """The pair at any size; `sharing` is "transferred" to layers of their own in Keras, or "one_layer"."""
    build_torch, build_keras = builders(__name__, units=units, uses=uses, sharing=sharing)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)
    transferred = sharing == "transferred"
    weight_map = {**affine("dense", "dense_0"), **affine("head", "head")}
    if transferred:
        weight_map |= {
            "dense.weight": xcheck.copies(*(f"dense_{i}/kernel" for i in range(uses))),
            "dense.bias": xcheck.copies(*(f"dense_{i}/bias" for i in range(uses))),
        }
    expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "gradient", "transferred_copy")
    return xcheck.Pair(
        name="transferred_weights" + ("" if transferred else "_corrected"),
        torch=xcheck.TorchSide(build_torch, loss=categorical_crossentropy, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss="sparse_categorical_crossentropy", optimizer=keras_optimizer),
        batches=minibatches(lambda: flat_digits(units)),
        weight_map=weight_map,
        expect=expect if transferred else None,
        also=("persistence", "export"),
    )


PAIR = pair()
CORRECTED = pair(sharing="one_layer")
