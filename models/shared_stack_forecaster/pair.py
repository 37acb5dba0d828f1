"""Stacks that repeat one block, forecasting the lengths of lines of the standard library's source."""

from __future__ import annotations

import numpy as np

import xcheck

from ..common import affine, builders, line_lengths, minibatches, optimizers


def pair(
    past: int = 10,
    future: int = 3,
    width: int = 8,
    stacks: int = 2,
    repeats: int = 3,
    batch_size: int = 8,
    torch_listed: bool = False,
    keras_cloned: bool = False,
) -> xcheck.Pair:
    """The pair at any size; the original has past=7 * future, width=512 and repeats=3.

    `torch_listed` keeps the stacks in a plain list, so that nothing of them trains; `keras_cloned` makes a block for
    each repeat. The loss is the mean absolute error.
    """
    sizes = {"past": past, "future": future, "width": width, "stacks": stacks, "repeats": repeats}
    build_torch, _ = builders(__name__, **sizes, listed=torch_listed)
    _, build_keras = builders(__name__, **sizes, cloned=keras_cloned)
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    def data():
        series, after = line_lengths(past + future - 1)
        whole = np.concatenate([series[..., 0], after], axis=1)
        return whole[:, :past], whole[:, past:]

    def torch_loss(forecast, truth):
        return (forecast - truth).abs().mean()

    weight_map: dict[str, str | list[str]] = {"scale": "scale/scale"}
    for i in range(0 if torch_listed else stacks):
        copies = [f"stack_{i}"] + [f"stack_{i}_{k}" for k in range(1, repeats if keras_cloned else 1)]
        for layer in ("hidden_0", "hidden_1", "backcast", "forecast"):
            for torch, keras in affine(layer, layer).items():
                if layer.startswith("hidden") or torch.endswith("weight"):
                    found = [f"{copy}/{keras}" for copy in copies]
                    weight_map[f"stacks.{i}.{torch}"] = found if keras_cloned else found[0]
    expect = None
    if torch_listed:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "inventory", "unregistered_parameters")
    elif keras_cloned:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "inventory", "tie_missing")
    return xcheck.Pair(
        name="shared_stack_forecaster" + "_listed" * torch_listed + "_cloned" * keras_cloned,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss="mean_absolute_error", optimizer=keras_optimizer),
        batches=minibatches(data, batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
LISTED = pair(torch_listed=True)
CLONED = pair(keras_cloned=True)
