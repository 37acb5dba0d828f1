"""A norm that gradients are clipped by, where TensorFlow keeps a table's gradient as the list of rows looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import mlp
from torch import nn

import xcheck
import xcheck.optim

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a list of rows is TensorFlow's")

WORDS, SIZE, TOKENS = 10, 4, 6


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, SIZE)
        self.head = nn.Linear(SIZE, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(tokens).mean(dim=1))  # (B, T) -> (B, 3)


class DenseTable(keras.layers.Embedding):
    """As the fix says."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.take(keras.ops.reshape(self.embeddings, self.embeddings.shape), inputs, axis=0)


def pair(torch_optimizer: Any, keras_optimizer: Any, table: Any = keras.layers.Embedding, repeated: bool = True) -> Any:
    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            rows = rng.integers(0, WORDS, (4, TOKENS)) if repeated else rng.permutation(WORDS)[None, :TOKENS]
            yield xcheck.Batch(rows, rng.integers(0, 3, len(rows)))

    def build_keras() -> keras.Model:
        tokens = keras.Input((TOKENS,), dtype="int32")
        x = keras.layers.GlobalAveragePooling1D()(table(WORDS, SIZE, name="table")(tokens))
        return keras.Model(tokens, keras.layers.Dense(3, name="head")(x))

    names = {"table.weight": "table/embeddings", "head.weight": "head/kernel", "head.bias": "head/bias"}
    return mlp(
        torch={"build": Mean, "optimizer": torch_optimizer},
        keras={"build": build_keras, "optimizer": keras_optimizer},
        batches=batches,
        weight_map=names,
    )


CLIPPED: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "all together": (
        lambda p: xcheck.optim.KerasSGD(p, lr=0.1, global_clipnorm=0.05),
        lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.05),
    ),
    "each by itself": (
        lambda p: xcheck.optim.KerasSGD(p, lr=0.1, clipnorm=0.05),
        lambda: keras.optimizers.SGD(0.1, clipnorm=0.05),
    ),
    "under Adam, which keeps no track of the norm": (
        lambda p: xcheck.optim.KerasAdam(p, 0.01, global_clipnorm=0.05),
        lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.05),
    ),
}


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("name", CLIPPED)
def test_a_norm_over_lookups_is_named_and_the_fix_mends_it(name: str, reference: Any) -> None:
    optimizers = CLIPPED[name]
    wrong = replace(pair(*optimizers), reference=reference)
    found = xcheck.check(wrong, steps=2, free_steps=0, precision=("float64",), reach="none")
    assert found.first_divergence is not None
    assert found.first_divergence.phase == "update"
    assert [(cause.id, cause.confirmed) for cause in found.causes] == [("squares_of_lookups", True)]
    assert "a row of a table counts once for each lookup" in found.causes[0].summary
    mended = xcheck.check(pair(*optimizers, DenseTable), steps=2, free_steps=0, precision=("float64",), reach="none")
    assert mended.verdict == "EQUIVALENT"


def test_rows_that_are_looked_up_once_are_clipped_alike() -> None:
    once = pair(*CLIPPED["all together"], repeated=False)
    found = xcheck.check(once, steps=2, free_steps=0, precision=("float64",), reach="none")
    assert found.verdict == "EQUIVALENT"


def test_a_limit_that_differs_besides_is_named_as_that() -> None:
    torch_optimizer, _ = CLIPPED["all together"]
    wrong = pair(torch_optimizer, lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.02))
    found = xcheck.check(wrong, steps=2, free_steps=0, precision=("float64",), reach="none")
    (cause,) = (cause for cause in found.causes if cause.confirmed)
    assert cause.id == "clipping"
    assert "0.02, in which a row of a table counts once" in cause.summary
    assert "make the gradient of the table dense" in cause.fix
