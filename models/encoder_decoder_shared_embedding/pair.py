"""An encoder and a decoder that share one table with the head, on the source of Python's textwrap module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

import xcheck

from ..common import builders, cross_entropy, optimizers, text

MISSING = 256


def with_gaps(source: int, target: int, batch_size: int):
    """Batches of text with `target` bytes missing (B, S), what is missing one behind (B, T); and it itself (B, T)."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        windows, _ = text(source)
        rng = np.random.default_rng(seed)
        while True:
            chosen = windows[rng.choice(len(windows), batch_size, replace=False)]
            gaps = np.argsort(rng.random(chosen.shape)) < target
            missing = chosen[gaps].reshape(batch_size, target)
            behind = np.pad(missing[:, :-1], ((0, 0), (1, 0)), constant_values=MISSING)
            yield xcheck.Batch((np.where(gaps, MISSING, chosen), behind), missing)

    return batches


def pair(
    source: int = 12,
    target: int = 6,
    width: int = 24,
    heads: int = 2,
    hidden: int = 48,
    layers: int = 1,
    reach: int = 4,
    batch_size: int = 4,
    tied: bool = True,
    keras_scaled: Literal["if tied", "always", "never"] = "if tied",
) -> xcheck.Pair:
    """The pair at any size; the original base model has source=512, target=114, width=768, heads=12, hidden=3072,
    layers=12, reach=128, and was trained with Adafactor.

    `tied=False` gives both sides a head of its own. `keras_scaled` is what goes wrong in a port.
    """
    sizes = {"width": width, "heads": heads, "hidden": hidden, "layers": layers, "reach": reach, "tied": tied}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, source=source, target=target, scaled=keras_scaled)
    torch_loss, keras_loss = cross_entropy()
    torch_optimizer, keras_optimizer = optimizers("Adam", learning_rate=1e-3)

    weight_map: dict[str, str | tuple[str, str]] = {"embedding.weight": "embedding/embeddings"}
    if not tied:
        weight_map["head.weight"] = "head/kernel"
    for side in ("encoder", "decoder"):
        weight_map[f"{side}.bias.table"] = (f"{side}_bias/table", "identity")
        weight_map[f"{side}.norm.weight"] = f"{side}_norm/scale"
        for i in range(layers):
            parts = {"attend": ("query", "key", "value", "output"), "think": ("up", "down")}
            parts |= {"look": parts["attend"]} if side == "decoder" else {}
            for block, names in parts.items():
                weight_map[f"{side}.{block}.{i}.norm.weight"] = f"{side}_{block}_{i}_norm/scale"
                for name in names:
                    weight_map[f"{side}.{block}.{i}.{name}.weight"] = f"{side}_{block}_{i}_{name}/kernel"

    scale = {"always": "_scaled", "never": "_unscaled"}.get(keras_scaled, "")
    wrong = tied if keras_scaled == "never" else keras_scaled == "always" and not tied
    return xcheck.Pair(
        name="encoder_decoder_shared_embedding" + "_untied" * (not tied) + scale,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=with_gaps(source, target, batch_size),
        weight_map=weight_map,
        ties=[["embedding.weight", "head.weight"]] if tied else [],
        also=("persistence", "export"),
        expect=xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "constant_factor") if wrong else None,
    )


PAIR = pair()
UNTIED = pair(tied=False)
UNSCALED = pair(keras_scaled="never")
UNTIED_SCALED = pair(tied=False, keras_scaled="always")
