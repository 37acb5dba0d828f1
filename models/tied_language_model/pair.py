"""A byte-level language model whose embedding is also its output layer, on the source of Python's textwrap module."""

from __future__ import annotations

import xcheck

from ..common import builders, cross_entropy, minibatches, optimizers, text


def pair(
    vocabulary: int = 256,
    width: int = 40,
    layers: int = 1,
    length: int = 8,
    batch_size: int = 4,
    keras_tied: bool = True,
    keras_scaled: bool = False,
) -> xcheck.Pair:
    """The pair at any size; the original is a word model of width=650, layers=2, length=35, batch_size=20.

    `keras_tied` and `keras_scaled` are what goes wrong in a port: a head of its own, a factor of sqrt(width).
    """
    sizes = {"vocabulary": vocabulary, "width": width, "layers": layers}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, tied=keras_tied, scaled=keras_scaled)
    torch_loss, keras_loss = cross_entropy()
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=1.0, global_clipnorm=5.0)
    weight_map = {"embedding.weight": "embedding/embeddings"}
    if not keras_tied:
        weight_map["head.weight"] = "head/kernel"
    for i in range(layers):
        weight_map[f"recurrent.{i}.weight_ih_l0"] = f"recurrent_{i}/lstm_cell/kernel"
        weight_map[f"recurrent.{i}.weight_hh_l0"] = f"recurrent_{i}/lstm_cell/recurrent_kernel"

    expect = None
    if not keras_tied:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "inventory", "tie_missing")
    elif keras_scaled:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "constant_factor")
    return xcheck.Pair(
        name="tied_language_model" + "_untied" * (not keras_tied) + "_scaled" * keras_scaled,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(lambda: text(length), batch_size),
        weight_map=weight_map,
        ties=[["embedding.weight", "head.weight"]],
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
UNTIED = pair(keras_tied=False)
SCALED = pair(keras_scaled=True)
