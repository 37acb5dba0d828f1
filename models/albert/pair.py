"""A masked language model whose layers share their weights in groups, on the source of Python's textwrap module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

import xcheck

from ..common import builders, cross_entropy, optimizers, text

MASK, LEFT_OUT = 256, -1


def masked(length: int, batch_size: int):
    """Batches of text (B, T) with every fourth byte masked, and what stood there (B, T), -1 elsewhere."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        windows, _ = text(length)
        rng = np.random.default_rng(seed)
        while True:
            chosen = windows[rng.choice(len(windows), batch_size, replace=False)]
            hidden = np.argsort(rng.random(chosen.shape)) < -(-length // 4)
            yield xcheck.Batch(np.where(hidden, MASK, chosen), np.where(hidden, chosen, LEFT_OUT))

    return batches


def pair(
    length: int = 10,
    embedding: int = 16,
    width: int = 24,
    heads: int = 2,
    hidden: int = 48,
    layers: int = 4,
    groups: int = 2,
    batch_size: int = 4,
    keras_sharing: Literal["neighbours", "alternating", "none"] = "neighbours",
) -> xcheck.Pair:
    """The pair at any size; the original base model has length=512, embedding=128, width=768, heads=12, hidden=3072,
    layers=12, groups=1, and was trained with LAMB, which is AdamW with a step per layer.

    `keras_sharing` is what goes wrong in a port: blocks that are cloned, groups that are no neighbours.
    """
    sizes = {"length": length, "embedding": embedding, "width": width, "heads": heads, "hidden": hidden}
    sizes |= {"layers": layers, "groups": groups}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, sharing=keras_sharing)
    torch_loss, keras_loss = cross_entropy(ignore=LEFT_OUT)
    torch_optimizer, keras_optimizer = optimizers("AdamW", learning_rate=1e-3, weight_decay=0.01)

    weight_map: dict[str, str | tuple[str, str]] = {
        "embedding.weight": "embedding/embeddings",
        "positions.weight": ("positions/table", "identity"),
        **_both("embedding_norm", "embedding_norm", "gamma", "beta"),
        **_both("widen", "widen"),
        **_both("narrow", "narrow"),
        **_both("head_norm", "head_norm", "gamma", "beta"),
    }
    ties = [["embedding.weight", "head.weight"]]
    for i in range(layers):
        group = i // (layers // groups)
        there = f"layer_{i}" if keras_sharing == "none" else f"group_{group}"
        weight_map |= _block(f"layers.{i}", there)
    for group in range(groups):
        first = group * (layers // groups)
        ties.append([f"layers.{i}.query.weight" for i in range(first, first + layers // groups)])

    expect = {
        "neighbours": None,
        "alternating": xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "other_parameter"),
        "none": xcheck.Expectation(xcheck.Verdict.DIFFERENT, "inventory", "tie_missing"),
    }
    return xcheck.Pair(
        name="albert" + {"neighbours": "", "alternating": "_alternating", "none": "_cloned"}[keras_sharing],
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=masked(length, batch_size),
        weight_map=weight_map,
        ties=ties,
        also=("persistence", "export"),
        expect=expect[keras_sharing],
    )


def _both(torch: str, keras: str, weight: str = "kernel", bias: str = "bias") -> dict[str, str]:
    return {f"{torch}.weight": f"{keras}/{weight}", f"{torch}.bias": f"{keras}/{bias}"}


def _block(torch: str, keras: str) -> dict[str, str | tuple[str, str]]:
    entries: dict[str, str | tuple[str, str]] = {
        f"{torch}.output.weight": (f"{keras}_attention/attention_output/kernel", "merge_heads"),
        f"{torch}.output.bias": f"{keras}_attention/attention_output/bias",
        **_both(f"{torch}.attention_norm", f"{keras}_attention_norm", "gamma", "beta"),
        **_both(f"{torch}.up", f"{keras}_up"),
        **_both(f"{torch}.down", f"{keras}_down"),
        **_both(f"{torch}.norm", f"{keras}_norm", "gamma", "beta"),
    }
    for part in ("query", "key", "value"):
        entries[f"{torch}.{part}.weight"] = (f"{keras}_attention/{part}/kernel", "split_heads")
        entries[f"{torch}.{part}.bias"] = (f"{keras}_attention/{part}/bias", "head_bias")
    return entries


PAIR = pair()
CLONED = pair(keras_sharing="none")
ALTERNATING = pair(keras_sharing="alternating")
