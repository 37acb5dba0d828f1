"""The gradient of a parameter told apart by use, on both frameworks: named, summing to the whole, without a trace."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import dilated_conv, submodel_regularizer
from torch import nn
from torch.nn import functional as F

import xcheck
from xcheck.frameworks.sides import Sides, silent
from xcheck.pairs.batches import batches_of
from xcheck.phases.begin import begin


def taken(pair: xcheck.Pair, side: str) -> tuple[dict[str, list[str]], Any]:
    """Names of the uses per parameter, and the runner's notes; the uses sum to the gradient the step then has."""
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open(side) as runner:  # type: ignore[arg-type]
        batch = next(batches_of(pair, 0, 1))
        before, found = runner.read(), runner.uses(1, batch)
        after = runner.read()
        assert [(p, v.tobytes()) for p, v in before.values().items()] == [
            (p, v.tobytes()) for p, v in after.values().items()
        ]
        record = runner.step(1, batch)
        for path, uses in found.items():
            largest = max(np.abs(g).max() for g in uses.values())
            np.testing.assert_allclose(sum(uses.values()), record.gradients[path], rtol=0, atol=1e-14 * largest)
        return {path: list(uses) for path, uses in found.items()}, runner.notes()


def of_torch(build: Any, batch: np.ndarray, **parts: Any) -> xcheck.Pair:
    """One side of a pair; the other is never built."""
    side = xcheck.TorchSide(build, **parts)
    return xcheck.Pair("torch", side, xcheck.KerasSide(object()), lambda _: iter([xcheck.Batch(batch)]))


def calls(owner: str, *numbers: int) -> list[str]:
    return [f"{owner} (call {n})" for n in numbers]


TOKENS = np.random.default_rng(0).integers(0, 7, (3, 5))
ROWS = np.random.default_rng(0).standard_normal((6, 4))
SERIES = np.random.default_rng(0).standard_normal((6, 5, 4))


class Tied(nn.Module):
    """An embedding used again as the output matrix, in one of the ways people write that."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.emb = nn.Embedding(7, 4)
        if how == "module":
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.emb.weight

    def forward(self, x):
        h, w = torch.tanh(self.emb(x)), self.emb.weight
        match self.how:
            case "module":
                return self.head(h)
            case "function":
                return F.linear(h, w)
            case "t()":
                return h @ w.t()
            case "T":
                return h @ w.T
            case "slices":
                return torch.cat([h @ w[:3].T, h @ w[3:].T], -1)
            case "detach":
                return h @ w.detach().T
            case "data":
                return h @ w.data.T
            case _:
                raise AssertionError


@pytest.mark.parametrize(
    ("how", "second"),
    [
        ("module", ["head (call 1)"]),
        ("function", ["(the model) (call 1)"]),
        ("t()", ["(the model) (call 1)"]),
        ("T", ["(the model) (call 1)"]),
        ("slices", ["(the model) (call 1, use 1)", "(the model) (call 1, use 2)"]),
        ("detach", ["(the model) (call 1)"]),
        ("data", ["(the model) (call 1)"]),
    ],
)
def test_torch_sees_a_tie_however_it_is_written(how, second):
    names, _ = taken(of_torch(lambda: Tied(how), TOKENS), "torch")
    assert names == {"emb.weight": ["emb (call 1)", *second]}


def test_torch_gives_a_detached_use_gradient_zero():
    pair = of_torch(lambda: Tied("detach"), TOKENS)
    with Sides(begin(pair, 0, 1, None), "cpu", silent).open("torch") as runner:
        uses = runner.uses(1, xcheck.Batch(TOKENS))["emb.weight"]
    assert uses["emb (call 1)"].any()
    assert not uses["(the model) (call 1)"].any()


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Embedding(7, 4, sparse=True)

    def forward(self, x):
        return self.a(x) + self.a(x * 0)


class Parametrized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))

    def forward(self, x):
        return self.norm(self.spectral(self.norm(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.lstm, self.bn = nn.GRUCell(4, 3), nn.LSTM(4, 3, batch_first=True), nn.BatchNorm1d(3)

    def forward(self, x):
        h = None
        for t in range(3):
            h = self.cell(x[:, t], h)
        return self.bn(h) + self.bn(self.lstm(x)[0][:, -1]) + self.lstm(x * 2)[0][:, -1]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x):
        return self.layer(self.layer(x))


@pytest.mark.parametrize(
    ("model", "batch", "expected"),
    [
        (Sparse, TOKENS, {"a.weight": ["a (call 1)", "a (call 2)"]}),
        (Parametrized, ROWS, {"norm.bias": ["norm (call 1)", "norm (call 2)"]}),
        (
            Parametrized,
            ROWS,
            {"norm.parametrizations.weight.original1": [f"norm.parametrizations.weight.0 (call {n})" for n in (1, 2)]},
        ),
        (Recurrent, SERIES, {"cell.weight_ih": [f"cell (call {n})" for n in (1, 2, 3)]}),
        (Recurrent, SERIES, {"lstm.weight_hh_l0": [f"lstm (call {n})" for n in (1, 2)]}),
        (Recurrent, SERIES, {"bn.weight": [f"bn (call {n})" for n in (1, 2)]}),
        (Attention, SERIES, {"layer.self_attn.in_proj_weight": [f"layer.self_attn (call {n})" for n in (1, 2)]}),
    ],
)
def test_torch_follows_every_kind_of_module(model, batch, expected):
    names, notes = taken(of_torch(model, batch), "torch")
    assert {path: names[path] for path in expected} == expected
    assert not [n for n in notes if "split" in n]


def accumulating(model, optimizer, batch):
    """Two halves of the batch, a scaled loss, and clipping."""
    optimizer.zero_grad()
    for half in batch.inputs.chunk(2):
        (model(half).square().sum() * 1024).backward()
    for p in model.parameters():
        p.grad /= 1024
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()


def test_torch_splits_the_gradient_of_a_step_of_the_pairs_own():
    names, notes = taken(of_torch(Attention, SERIES, step=accumulating, optimizer=torch.optim.AdamW), "torch")
    assert names["layer.linear1.weight"] == calls("layer.linear1", 1, 2, 3, 4)
    assert not [n for n in notes if "split" in n]


def test_torch_names_the_uses_outside_of_the_model():
    def build():
        return nn.Sequential(nn.Linear(4, 4, bias=False))

    def penalty(model):
        return model[0].weight.abs().sum() + model[0].weight.square().sum()

    assert taken(of_torch(build, ROWS, penalty=penalty), "torch")[0] == {
        "0.weight": ["0 (call 1)", "penalty (use 1)", "penalty (use 2)"]
    }


class Fragile(nn.Module):
    """Refuses everything but its own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        w = self.lin.weight * 1
        if w.requires_grad and w.grad_fn.next_functions[0][0].name() != "torch::autograd::AccumulateGrad":
            raise RuntimeError("not my weight")
        return x @ w + self.lin(x)


def test_a_model_that_does_not_bear_it_is_left_alone_with_a_note():
    names, notes = taken(of_torch(Fragile, ROWS), "torch")
    assert names == {}
    assert notes == ["the gradients of the torch side are not split by use: not my weight"]


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_the_pairs_of_the_repository_are_split(side):
    names, _ = taken(dilated_conv(), side)
    assert sorted(map(len, names.values())) == [3, 3]
    names, _ = taken(submodel_regularizer(), side)
    assert [uses[-1] for uses in names.values()] == ["penalty"]


# Keras -----------------------------------------------------------------------------------------------------------


def in_keras(build: Any, batch: Any) -> dict[str, list[str]]:
    pair = xcheck.Pair(
        "k", xcheck.TorchSide(nn.Identity()), xcheck.KerasSide(build), lambda _: iter([xcheck.Batch(batch)])
    )
    names, notes = taken(pair, "keras")
    assert not [n for n in notes if "split" in n]
    return names


def test_keras_reused_and_nested_layers():
    def build():
        dense = keras.layers.Dense(4, name="d", kernel_regularizer="l1", activity_regularizer="l2")
        inner = keras.Sequential([keras.Input((4,)), dense], name="enc")
        x = keras.Input((4,))
        return keras.Model(x, inner(inner(x)))

    assert in_keras(build, ROWS) == {
        "enc/d/kernel": [*calls("enc/d", 1, 2), "penalty"],
        "enc/d/bias": calls("enc/d", 1, 2),
    }


def test_keras_reversible_embedding():
    def build():
        table = keras.layers.ReversibleEmbedding(7, 4, name="emb")
        x = keras.Input((5,), dtype="int32")
        return keras.Model(x, table(table(x), reverse=True))

    assert in_keras(build, TOKENS) == {"emb/embeddings": calls("emb", 1, 2)}


class Borrower(keras.layers.Layer):
    def __init__(self, donor, **options):
        super().__init__(**options)
        self.donor = donor

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.donor.kernel)) + keras.ops.stop_gradient(self.donor.bias)


def test_keras_a_borrowed_variable_and_one_behind_stop_gradient():
    def build():
        donor = keras.layers.Dense(4, name="donor")
        x = keras.Input((4,))
        return keras.Model(x, Borrower(donor, name="borrower")(donor(x)))

    both = calls("donor", 1) + calls("borrower", 1)
    assert in_keras(build, ROWS) == {"donor/kernel": both, "donor/bias": both}


class Unrolled(keras.Model):
    def __init__(self):
        super().__init__()
        self.cell = keras.layers.LSTMCell(3, name="cell")
        self.bn = keras.layers.BatchNormalization(name="bn")

    def call(self, x, training=False):
        states = [keras.ops.zeros((x.shape[0], 3), x.dtype)] * 2
        first, states = self.cell(x[:, 0], states)
        second, states = self.cell(x[:, 1], states)
        return self.bn(first, training=training) + self.bn(second, training=training)


def test_keras_a_cell_in_a_loop_and_a_norm_called_twice():
    names = in_keras(Unrolled, SERIES)
    assert names["unrolled/cell/kernel"] == calls("unrolled/cell", 1, 2)
    assert names["unrolled/bn/gamma"] == calls("unrolled/bn", 1, 2)


def test_keras_a_recurrent_layer_uses_its_cell_once_per_position():
    def build():
        lstm = keras.layers.LSTM(3, name="lstm", kernel_constraint="unit_norm", recurrent_regularizer="l2")
        x = keras.Input((5, 4))
        return keras.Model(x, lstm(x))

    names = in_keras(build, SERIES)
    assert len([n for n in names["lstm/lstm_cell/kernel"] if "lstm_cell (call" in n]) >= 5
    assert names["lstm/lstm_cell/recurrent_kernel"][-1] == "penalty"


def test_keras_a_kernel_that_is_assigned_in_the_pass():
    def build():
        layer = keras.layers.SpectralNormalization(keras.layers.Dense(4, name="d"), name="sn")
        x = keras.Input((4,))
        return keras.Model(x, layer(layer(x)))

    names = in_keras(build, ROWS)
    assert set(names["sn/d/kernel"]) >= set(calls("sn/d", 1, 2))


class OwnStep(keras.Model):
    def __init__(self):
        super().__init__()
        self.one, self.other = keras.layers.Dense(4, name="one"), keras.layers.Dense(4, name="other")

    def call(self, x):
        return self.one(self.one(x)) + self.other(x)

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.compute_loss(data[0], data[1], self(data[0]))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.other.kernel.assign(self.one.kernel)
        return {"loss": loss}


def test_keras_a_training_step_of_the_models_own():
    assert in_keras(OwnStep, ROWS) == {
        "own_step/one/kernel": calls("own_step/one", 1, 2),
        "own_step/one/bias": calls("own_step/one", 1, 2),
    }


def test_nothing_is_told_apart_where_nothing_is_shared():
    def build():
        x = keras.Input((4,))
        return keras.Model(x, keras.layers.Dense(4)(x))

    assert in_keras(build, ROWS) == {}
