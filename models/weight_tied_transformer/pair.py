"""A decoder-only transformer whose head is its embedding, with its schedule, on the source of Python's textwrap."""

from __future__ import annotations

from typing import Literal

import xcheck

from ..common import affine, builders, cross_entropy, minibatches, text

CAUSES = {
    "epsilon": "optimizer_setting",
    "decay_all": "decay_exclusion",
    "decay_after_saving": "decay_exclusion_not_saved",
    "late_schedule": "schedule",
    "clip_each": "clipping",
    "plain_adamw": "optimizer_formula",
}
"""What each mistake is called."""

MISTAKES = {
    "epsilon": {"epsilon": 1e-7},
    "decay_all": {"excluded": "never"},
    "decay_after_saving": {"excluded": "until saved"},
    "late_schedule": {"late": True},
    "clip_each": {"clip_each": True},
}
"""What goes wrong in a port, as settings of Keras's training."""


def pair(
    vocabulary: int = 256,
    length: int = 12,
    width: int = 24,
    heads: int = 2,
    layers: int = 1,
    warm_up: int = 4,
    steps: int = 20,
    batch_size: int = 4,
    mistake: Literal[
        "", "epsilon", "decay_all", "decay_after_saving", "late_schedule", "clip_each", "plain_adamw"
    ] = "",
) -> xcheck.Pair:
    """The pair at any size; the original has vocabulary=50257, length=1024, width=768, heads=12, layers=12, and is
    retrained with warm_up=2000, steps=600000.

    `mistake` is one of `MISTAKES`, or "plain_adamw": PyTorch's own training loop with equal settings.
    """
    sizes = {"vocabulary": vocabulary, "length": length, "width": width, "heads": heads, "layers": layers}
    course = {"warm_up": warm_up, "steps": steps}
    build_torch, build_keras = builders(__name__, **sizes)
    torch_loss, keras_loss = cross_entropy()

    def groups(parameters):
        from .torch_model import Training, decayed

        matrices, vectors = decayed(list(parameters))
        return Training(**course), matrices, vectors

    def torch_optimizer(parameters):
        from xcheck.optim.torch.optimizers import KerasAdamW

        from .torch_model import learning_rate

        training, matrices, vectors = groups(parameters)
        return KerasAdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": None}],
            lambda taken: learning_rate(taken, training),
            weight_decay=training.weight_decay,
            betas=(0.9, training.beta_2),
            eps=training.epsilon,
            global_clipnorm=training.clip,
        )

    def plain_adamw(parameters):
        import torch

        from .torch_model import learning_rate

        training, matrices, vectors = groups(parameters)
        adamw = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
            lr=training.peak,
            weight_decay=training.weight_decay,
            betas=(0.9, training.beta_2),
            eps=training.epsilon,
        )
        adamw.scheduler = torch.optim.lr_scheduler.LambdaLR(  # pyright: ignore[reportAttributeAccessIssue]
            adamw, lambda taken: learning_rate(taken, training) / training.peak
        )
        return adamw

    def plain_step(model, optimizer, batch):
        import torch

        from .torch_model import Training

        optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), Training(**course).clip)
        optimizer.step()
        optimizer.scheduler.step()
        return loss

    def keras_optimizer():
        from .keras_model import Training, optimizer

        return optimizer(Training(**course, **MISTAKES.get(mistake, {})))

    weight_map: dict[str, str | tuple[str, str]] = {
        "embedding.weight": "embedding/embeddings",
        "positions.weight": ("positions/table", "identity"),
        "norm.weight": "norm/gamma",
        "norm.bias": "norm/beta",
    }
    for i in range(layers):
        for norm in ("attention_norm", "norm"):
            weight_map[f"blocks.{i}.{norm}.weight"] = f"block_{i}_{norm}/gamma"
            weight_map[f"blocks.{i}.{norm}.bias"] = f"block_{i}_{norm}/beta"
        for layer in ("query_key_value", "output", "up", "down"):
            weight_map |= affine(f"blocks.{i}.{layer}", f"block_{i}_{layer}")
    phase = "persistence" if mistake == "decay_after_saving" else "update"
    torch_side = xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer)
    if mistake == "plain_adamw":
        torch_side = xcheck.TorchSide(build_torch, optimizer=plain_adamw, step=plain_step)
    return xcheck.Pair(
        name="weight_tied_transformer" + f"_{mistake}" * bool(mistake),
        torch=torch_side,
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=minibatches(lambda: text(length), batch_size),
        weight_map=weight_map,
        ties=[["embedding.weight", "head.weight"]],
        also=("persistence", "export"),
        expect=xcheck.Expectation(
            xcheck.Verdict.DIFFERENT, phase, CAUSES[mistake], besides=("clipping_formula",) * (mistake == "plain_adamw")
        )
        if mistake
        else None,
    )


PAIR = pair()
EPSILON = pair(mistake="epsilon")
DECAY_ALL = pair(mistake="decay_all")
DECAY_AFTER_SAVING = pair(mistake="decay_after_saving")
LATE_SCHEDULE = pair(mistake="late_schedule")
CLIP_EACH = pair(mistake="clip_each")
PLAIN_ADAMW = pair(mistake="plain_adamw")
