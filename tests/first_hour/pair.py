"""What a reader of the pages writes for the two scripts: the port as it is, and mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import xcheck


def build_torch() -> Any:
    from . import train_torch

    return train_torch.LanguageModel()


def torch_optimizer(model: Any) -> Any:
    """The optimizer, with the scheduler and the average that a step also keeps."""
    import torch
    from torch.optim import lr_scheduler

    from . import train_torch as script

    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": script.DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer: Any = torch.optim.AdamW(groups, lr=script.PEAK)
    warm_up = lr_scheduler.LinearLR(optimizer, 1 / script.WARM_UP, total_iters=script.WARM_UP)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, script.STEPS - script.WARM_UP)
    optimizer.scheduler = lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], [script.WARM_UP])
    optimizer.average = {name: value.detach().clone() for name, value in model.named_parameters()}
    return optimizer


def torch_step(model: Any, optimizer: Any, batch: Any) -> Any:
    import torch
    from torch.nn import functional as F

    from .train_torch import AVERAGE

    loss = F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()
    optimizer.scheduler.step()
    with torch.no_grad():
        for name, value in model.named_parameters():
            optimizer.average[name].lerp_(value, 1 - AVERAGE)
    return loss


def build_keras() -> Any:
    from . import train_keras

    return train_keras.LanguageModel()


def keras_optimizer() -> Any:
    import keras

    from . import train_keras as port

    return keras.optimizers.AdamW(
        port.WarmUpCosine(), weight_decay=port.DECAY, clipnorm=0.25, use_ema=True, ema_momentum=port.AVERAGE
    )


def build_mended() -> Any:
    from . import train_keras_mended

    return train_keras_mended.LanguageModel()


def mended_optimizer() -> Any:
    from . import train_keras_mended

    return train_keras_mended.make_optimizer()


def keras_loss(targets: Any, outputs: Any) -> Any:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(targets, outputs)


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """Texts of 12 tokens, and the tokens that follow."""
    rng = np.random.default_rng(seed)
    while True:
        text = rng.integers(40, size=(16, 13))
        yield xcheck.Batch(text[:, :-1], text[:, 1:])


TORCH = xcheck.TorchSide(build_torch, optimizer=torch_optimizer, step=torch_step)
PAIR = xcheck.Pair("port", TORCH, xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer), batches)
TIED = xcheck.Pair(
    "tied_port", TORCH, xcheck.KerasSide(build_mended, loss=keras_loss, optimizer=keras_optimizer), batches
)
MENDED = xcheck.Pair(
    "mended_port",
    TORCH,
    xcheck.KerasSide(build_mended, loss=keras_loss, optimizer=mended_optimizer),
    batches,
    accept=[
        "optimizer_formula",
        "optimizer_setting",
        "clipping_formula",
        "average_start",
    ],  # what Keras does differently by itself
)
