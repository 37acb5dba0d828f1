"""Two towers that read one table of items: which word follows, on the source of Python's textwrap module."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator

import numpy as np

import xcheck

from ..common import builders, cross_entropy, optimizers


def words(items: int, length: int, batch_size: int):
    """Batches of histories (B, L), the items that follow (B,), their log frequencies (B,); and who belongs to whom.

    Items are the most frequent words. The candidates of a batch are different items, so that none is its own negative.
    """

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        counted = Counter(re.findall(r"\w+", inspect.getsource(textwrap)))
        number = {word: i for i, (word, _) in enumerate(counted.most_common(items))}
        text = np.array([number[w] for w in re.findall(r"\w+", inspect.getsource(textwrap)) if w in number])
        log_frequency = np.log(np.bincount(text, minlength=items).clip(1) / len(text))
        windows = np.lib.stride_tricks.sliding_window_view(text, length + 1)
        rng = np.random.default_rng(seed)
        while True:
            shuffled = windows[rng.permutation(len(windows))]
            _, first = np.unique(shuffled[:, -1], return_index=True)
            rows = shuffled[np.sort(first)[:batch_size]]
            history, item = rows[:, :-1], rows[:, -1]
            yield xcheck.Batch((history, item, log_frequency[item]), np.arange(batch_size))

    return batches


def pair(
    items: int = 100,
    width: int = 8,
    hidden: int = 12,
    length: int = 6,
    batch_size: int = 8,
    keras_dense_gradient: bool = True,
    torch_adagrad: bool = False,
) -> xcheck.Pair:
    """The pair at any size; systems in use have items in the millions and batch_size=8192.

    What goes wrong in a port: the gradient of Keras's own `Embedding`, and PyTorch's own Adagrad, whose sum of squares
    starts elsewhere.
    """
    sizes = {"items": items, "width": width, "hidden": hidden}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, dense_gradient=keras_dense_gradient)
    torch_loss, keras_loss = cross_entropy()
    torch_optimizer, keras_optimizer = optimizers("Adagrad", learning_rate=0.1)

    def plain_adagrad(parameters):
        import torch

        return torch.optim.Adagrad(parameters, lr=0.1, eps=1e-7)

    expect = None
    if torch_adagrad:
        expect = xcheck.Expectation(
            xcheck.Verdict.DIFFERENT, "update", "optimizer_setting", besides=("optimizer_formula",)
        )
    elif not keras_dense_gradient:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "update", "squares_of_lookups")
    weight_map = {"items.weight": "items/embeddings"}
    for tower in ("query", "candidate"):
        for layer in ("up", "down"):
            weight_map[f"{tower}.{layer}.weight"] = f"{tower}_{layer}/kernel"
            weight_map[f"{tower}.{layer}.bias"] = f"{tower}_{layer}/bias"
    return xcheck.Pair(
        name="two_tower" + "_sparse_gradient" * (not keras_dense_gradient) + "_plain_adagrad" * torch_adagrad,
        torch=xcheck.TorchSide(
            build_torch, loss=torch_loss, optimizer=plain_adagrad if torch_adagrad else torch_optimizer
        ),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=words(items, length, batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
SPARSE_GRADIENT = pair(keras_dense_gradient=False)
PLAIN_ADAGRAD = pair(torch_adagrad=True)
