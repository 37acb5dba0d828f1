"""One constraint for four kernels, on the lengths of the lines of a file of Python source, in runs of 3 to 9 lines."""

from __future__ import annotations

import itertools

import xcheck

from ..common import affine, builders, line_lengths, minibatches, optimizers

LENGTHS = (5, 3, 9)


def pair(
    units: tuple[int, int] = (8, 4), constraint: str = "one", trained_biases: int = 1, dim: int = 1
) -> xcheck.Pair:
    """The pair at any size, (64, 32) being the original.

    Args:
        units: of the two layers.
        constraint: "one" object for all kernels of Keras, or "one_each".
        trained_biases: how many of its two biases per layer PyTorch trains; 1 is right.
        dim: where PyTorch takes its norms; 1 is right.
    """
    build_torch, build_keras = builders(__name__, units=units, constraint=constraint, trained_biases=trained_biases)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def batches(seed):
        """Series of another length in each batch."""
        streams = [minibatches(lambda n=n: line_lengths(n))(seed) for n in LENGTHS]
        for stream in itertools.cycle(streams):
            yield next(stream)

    def torch_loss(outputs, targets):
        return (outputs - targets).square().mean()

    def after_step(model):
        from .torch_model import project

        project(model, dim)

    def lstm(name):
        return {
            f"{name}.weight_ih_l0": f"{name}/lstm_cell/kernel",
            f"{name}.weight_hh_l0": f"{name}/lstm_cell/recurrent_kernel",
            f"{name}.bias_ih_l0 + {name}.bias_hh_l0": f"{name}/lstm_cell/bias",
        }

    expect = None
    if dim != 1:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "update", "constraint_axis")
    if trained_biases != 1:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "update", "two_biases")
    variant = (
        ["one_each"] * (constraint != "one") + ["other_axis"] * (dim != 1) + ["two_biases"] * (trained_biases != 1)
    )
    return xcheck.Pair(
        name="_".join(["shared_unit_norm_lstm", *variant]),
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, after_step=after_step),
        keras=xcheck.KerasSide(build_keras, loss="mean_squared_error", optimizer=keras_optimizer),
        batches=batches,
        weight_map={**lstm("first"), **lstm("second"), **affine("head", "head")},
        expect=expect,
        also=("persistence", "export"),
    )


PAIR = pair()
ONE_EACH = pair(constraint="one_each")
OTHER_AXIS = pair(dim=0)
TWO_BIASES = pair(trained_biases=2)
