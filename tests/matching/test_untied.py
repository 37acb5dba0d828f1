"""An embedding and a head of which one side has one storage, and the other two: matched without a map."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import xcheck
from xcheck.phases.match import match

IDS = np.random.default_rng(0).integers(0, 11, (3, 5))


class Net(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 11, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.inner(self.table(ids))))


def reversible(tied: bool) -> keras.Model:
    ids = keras.Input((5,))
    table = layers.ReversibleEmbedding(11, 6, tie_weights=tied, name="table")
    return keras.Model(ids, table(ops.tanh(layers.Dense(6, name="inner")(table(ids))), reverse=True))


def two_layers() -> keras.Model:
    x = ops.tanh(layers.Dense(6, name="inner")(layers.Embedding(11, 6, name="table")(ids := keras.Input((5,)))))
    return keras.Model(ids, layers.Dense(11, use_bias=False, name="head")(x))


class Lookup(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = layers.Embedding(11, 6), layers.Dense(6)

    def call(self, ids):
        return ops.matmul(ops.tanh(self.inner(self.table(ids))), ops.transpose(self.table.embeddings))


TABLE = ("table.weight", "embeddings")
CASES = {
    "a reversible embedding": (False, lambda: reversible(True), [TABLE, ("head.weight", "embeddings")]),
    "a lookup": (False, Lookup, [TABLE, ("head.weight", "embeddings")]),
    "one that is not tied": (True, lambda: reversible(False), [TABLE, ("table.weight", "reverse_embeddings")]),
    "two layers": (True, two_layers, [TABLE, ("table.weight", "kernel")]),
}


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize(("tied", "build", "pairs"), CASES.values(), ids=CASES)
def test_both_uses_are_matched_where_one_side_alone_is_tied(tied, build, pairs, reference):
    sides = xcheck.TorchSide(lambda: Net(tied)), xcheck.KerasSide(build)
    plan = match(xcheck.Pair("tied", *sides, _ids, reference=reference))
    matched = [(m.torch, m.keras.rpartition("/")[2]) for m in plan.parameters if m.torch[:5] != "inner"]
    assert sorted(matched) == sorted(pairs)
    assert (plan.unmatched_torch, plan.unmatched_keras, plan.doubts) == ((), (), ())


class Biased(nn.Module):
    """Head with a bias of its own, as a layer or as a function; `inner` too may share its weight, with `second`."""

    def __init__(self, *, tied: bool, function: bool = False, second: bool = False) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 11)
        self.second = nn.Linear(6, 6)
        if tied:
            self.head.weight = self.table.weight
        if function:
            del self.head
            self.bias = nn.Parameter(torch.randn(11))
        if second:
            self.second.weight = self.inner.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.second(torch.tanh(self.inner(self.table(ids)))))
        return self.head(x) if hasattr(self, "head") else nn.functional.linear(x, self.table.weight, self.bias)


class BiasedLookup(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.second = layers.Embedding(11, 6), layers.Dense(6), layers.Dense(6)
        self.bias = self.add_weight(shape=(11,), initializer="normal", name="offset")

    def call(self, ids):
        x = ops.tanh(self.second(ops.tanh(self.inner(self.table(ids)))))
        return ops.matmul(x, ops.transpose(self.table.embeddings)) + self.bias


def separate() -> keras.Model:
    x = layers.Embedding(11, 6, name="table")(ids := keras.Input((5,)))
    x = ops.tanh(layers.Dense(6, name="second")(ops.tanh(layers.Dense(6, name="inner")(x))))
    return keras.Model(ids, layers.Dense(11, name="head")(x))


BIASED = {
    "a tied head": (lambda: Biased(tied=True), separate, "torch"),
    "a tied head, Keras as the reference": (lambda: Biased(tied=True), separate, "keras"),
    "a tied head as a function": (lambda: Biased(tied=False, function=True), separate, "torch"),
    "a tied head as a function, Keras as the reference": (
        lambda: Biased(tied=False, function=True),
        separate,
        "keras",
    ),
    "a tied head and a tied inner layer": (lambda: Biased(tied=True, second=True), separate, "torch"),
    "both, Keras as the reference": (lambda: Biased(tied=True, second=True), separate, "keras"),
    "a tie on the Keras side": (lambda: Biased(tied=False), BiasedLookup, "torch"),
}


@pytest.mark.parametrize(("build", "port", "reference"), BIASED.values(), ids=BIASED)
def test_a_tied_layer_may_have_a_bias_of_its_own(build, port, reference):
    plan = match(xcheck.Pair("tied", xcheck.TorchSide(build), xcheck.KerasSide(port), _ids, reference=reference))
    assert (plan.unmatched_torch, plan.unmatched_keras, plan.doubts) == ((), (), ())
    tied = [m for m in plan.parameters if m.torch == "table.weight" or m.keras.endswith("/embeddings")]
    assert len(tied) == 2
    assert ("bias", 11) in [(m.torch.removeprefix("head."), m.keras_piece.whole[0]) for m in plan.parameters]


def test_what_is_not_the_same_twice_stays_without_a_counterpart():
    """Keras multiplies with a table of its own making."""

    def build() -> keras.Model:
        x = ops.tanh(layers.Dense(6, name="inner")(layers.Embedding(11, 6, name="table")(ids := keras.Input((5,)))))
        return keras.Model(ids, ops.matmul(x, np.linspace(-1, 1, 66).reshape(6, 11)))

    plan = match(xcheck.Pair("other", xcheck.TorchSide(lambda: Net(tied=False)), xcheck.KerasSide(build), _ids))
    assert (plan.unmatched_torch, plan.unmatched_keras) == (("head.weight",), ())


def _ids(seed: int):
    yield xcheck.Batch(IDS)
