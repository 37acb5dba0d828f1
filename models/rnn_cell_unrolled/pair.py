"""A recurrent cell looped over time against the layer that loops by itself, on the rows of scikit-learn's digits."""

from __future__ import annotations

from typing import Any, Literal

import xcheck

from ..common import affine, builders, cross_entropy, digits, minibatches, optimizers


def pair(
    cell: Literal["lstm", "gru"] = "lstm",
    image_size: int = 8,
    hidden: int = 6,
    batch_size: int = 8,
    keras_reset_after: bool = True,
    gates_in_order: bool = True,
    torch_both_biases: bool = False,
) -> xcheck.Pair:
    """The pair at any size, by default an LSTM; a row of image_size=28 and hidden=128 are common.

    What goes wrong in a port of a GRU: Keras resets before it multiplies; the weights are carried over transposed, in
    PyTorch's order of gates. Of an LSTM: PyTorch trains both of its biases.
    """
    sizes = {"cell": cell, "pixels": image_size, "hidden": hidden}
    build_torch, _ = builders(__name__, **sizes, both_biases=torch_both_biases)
    _, build_keras = builders(__name__, **sizes, reset_after=keras_reset_after)
    torch_loss, keras_loss = cross_entropy()
    torch_optimizer, keras_optimizer = optimizers("RMSprop", learning_rate=1e-3)

    def data():
        images, labels = digits(image_size)
        return images[..., 0], labels

    there = f"recurrent/{cell}_cell"
    layout = "gru_kernel" if cell == "gru" and gates_in_order else "transpose"
    weight_map: dict[str, Any] = {
        "cell.weight_ih": (f"{there}/kernel", layout),
        "cell.weight_hh": (f"{there}/recurrent_kernel", layout),
        **affine("head", "head"),
    }
    if cell == "lstm":
        weight_map["cell.bias_ih + cell.bias_hh"] = f"{there}/bias"
    elif keras_reset_after:
        bias = "gru_bias" if gates_in_order else "identity"
        weight_map["cell.bias_ih"] = (f"{there}/bias[0]", bias)
        weight_map["cell.bias_hh"] = (f"{there}/bias[1]", bias)
    else:
        weight_map["cell.bias_ih"] = (f"{there}/bias", "gru_bias")
        weight_map["cell.bias_hh"] = xcheck.waive("a cell that resets before has one bias")
    expect = None
    if torch_both_biases:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "update", "two_biases")
    elif cell == "gru" and not (keras_reset_after and gates_in_order):
        cause = "reset_after" if gates_in_order else "gate_order"
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", cause)
    variant = "_reset_before" * (not keras_reset_after) + "_gate_order" * (not gates_in_order)
    variant += "_both_biases" * torch_both_biases
    return xcheck.Pair(
        name="rnn_cell_unrolled" + "_gru" * (cell == "gru") + variant,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(data, batch_size),
        weight_map=weight_map,
        # onnxruntime computes an exported GRU as Keras does, the evaluator of the standard does not: INCONCLUSIVE.
        also=("persistence", "export") if cell == "lstm" else ("persistence",),
        expect=expect,
    )


PAIR = pair()
GRU = pair(cell="gru")
RESET_BEFORE = pair(cell="gru", keras_reset_after=False)
GATE_ORDER = pair(cell="gru", gates_in_order=False)
BOTH_BIASES = pair(torch_both_biases=True)
