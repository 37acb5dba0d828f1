"""What a training setup puts around its loss, right and wrong.

Sample weights, masks, label smoothing, penalties: a correct port of each is equivalent, and each of their usual faults
is found where it belongs with everything before it passing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from ports import CLASSES, FEATURES, HIDDEN, assert_parts_in, keras_mlp, mlp, torch_loss, torch_sgd
from setups import assert_equivalent, parted, run
from torch import nn
from torch.nn import functional as F

import xcheck
from xcheck.optim import TorchSGD

# Sample weights ------------------------------------------------------------------------------------------------


def weighted_batches(seed: int) -> Iterator[xcheck.Batch]:
    """Inputs (B, 6), labels (B,) and how much each example counts (B,), some not at all."""
    rng = np.random.default_rng(seed)
    while True:
        counts = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 0.5, 1.0, 1.0, 0.0])
        targets = {"labels": rng.integers(0, CLASSES, 10), "counts": rng.permutation(counts)}
        yield xcheck.Batch(rng.standard_normal((10, FEATURES)), targets)


def labels_and_counts(batch: xcheck.Batch) -> Any:
    return batch.inputs, batch.targets["labels"], batch.targets["counts"]


def weighted(divide_by: str) -> Callable[..., Any]:
    def loss(outputs: Any, targets: Any) -> Any:
        each = F.cross_entropy(outputs, targets["labels"], reduction="none") * targets["counts"]
        return each.sum() / (len(each) if divide_by == "all" else targets["counts"].sum())

    return loss


def weighted_pair(**torch_parts: Any) -> xcheck.Pair:
    return mlp(
        torch={"loss": weighted("all"), **torch_parts},
        keras={
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "prepare": labels_and_counts,
        },
        batches=weighted_batches,
    )


def test_sample_weights() -> None:
    assert_equivalent(weighted_pair())


def test_sample_weights_in_the_users_own_step() -> None:
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = (F.cross_entropy(model(batch.inputs), batch.targets, reduction="none") * batch.sample_weight).mean()
        loss.backward()
        optimizer.step()
        return loss

    assert_equivalent(weighted_pair(step=step, prepare=labels_and_counts))


def test_mean_over_the_weights_instead_of_the_examples() -> None:
    assert_parts_in(run(weighted_pair(loss=weighted("kept"))), "loss")


def test_sample_weights_that_the_loss_never_sees() -> None:
    """The standard step has no place for a third item; that it goes nowhere has to be said."""
    with pytest.raises(xcheck.BadInput, match="sample weights"):
        run(weighted_pair(loss=torch_loss, prepare=labels_and_counts))


# Masks ---------------------------------------------------------------------------------------------------------

TOKENS, LENGTH, SIZE = 7, 5, 4


def padded_batches(seed: int) -> Iterator[xcheck.Batch]:
    """Tokens (B, T), 0 where a sentence has ended, and the label of each token."""
    rng = np.random.default_rng(seed)
    while True:
        tokens = rng.integers(1, TOKENS, (6, LENGTH))
        kept = np.arange(LENGTH) < np.array([5, 3, 1, 4, 2, 5])[:, None]
        yield xcheck.Batch(tokens * kept, rng.integers(0, CLASSES, tokens.shape), compare={"output": kept})


class Tagger(nn.Module):
    """Tokens (B, T) -> logits (B, T, 3); `at_padding` is added where a sentence has ended."""

    def __init__(self, at_padding: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, SIZE)
        self.head = nn.Linear(SIZE, CLASSES)
        self.at_padding = at_padding

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(tokens)) + self.at_padding * (tokens == 0).unsqueeze(-1)


def keras_tagger() -> Any:
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, SIZE, mask_zero=True, name="table")(tokens)
    return keras.Model(tokens, keras.layers.Dense(CLASSES, name="head")(x))


def token_loss(divide_by: str) -> Callable[..., Any]:
    def loss(outputs: Any, targets: Any) -> Any:
        total = F.cross_entropy(outputs.mT, targets, ignore_index=-100, reduction="sum")
        return total / (targets.numel() if divide_by == "all" else (targets != -100).sum())

    return loss


def ignored_where_padded(batch: xcheck.Batch) -> Any:
    return batch.inputs, np.where(batch.inputs == 0, -100, batch.targets)


def tagger_pair(batches: Any = padded_batches, at_padding: float = 0.0, divide_by: str = "kept") -> xcheck.Pair:
    return mlp(
        torch={
            "build": lambda: Tagger(at_padding),
            "loss": token_loss(divide_by),
            "prepare": ignored_where_padded,
        },
        keras={"build": keras_tagger, "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        batches=batches,
        weight_map={
            "table.weight": "table/embeddings",
            "head.weight": "head/kernel",
            "head.bias": "head/bias",
        },
    )


def test_a_masked_loss_and_masked_outputs() -> None:
    assert_equivalent(tagger_pair(at_padding=3.0))


def test_what_is_padding_counts_where_no_mask_says_so() -> None:
    def unmasked(seed: int) -> Iterator[xcheck.Batch]:
        for batch in padded_batches(seed):
            yield xcheck.Batch(batch.inputs, batch.targets)

    assert_parts_in(run(tagger_pair(unmasked, at_padding=3.0)), "forward")


def test_mean_over_all_tokens_instead_of_the_kept() -> None:
    result = run(tagger_pair(divide_by="all"))
    assert_parts_in(result, "loss")
    assert parted(result, "loss") == {"data", "total"}


@pytest.mark.parametrize(
    ("compare", "message"),
    [({"logits": (6, LENGTH)}, "is not an output"), ({"output": (6, LENGTH + 1)}, "does not fit")],
)
def test_a_mask_that_fits_no_output(compare: dict[str, tuple[int, ...]], message: str) -> None:
    def batches(seed: int) -> Iterator[xcheck.Batch]:
        for batch in padded_batches(seed):
            masks = {name: np.ones(shape, dtype=bool) for name, shape in compare.items()}
            yield xcheck.Batch(batch.inputs, batch.targets, compare=masks)

    with pytest.raises(xcheck.BadInput, match=message):
        run(tagger_pair(batches))


# Label smoothing -----------------------------------------------------------------------------------------------


def one_hot(batch: xcheck.Batch) -> Any:
    return batch.inputs, np.eye(CLASSES)[batch.targets]


def smoothed(**options: Any) -> dict[str, Any]:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, **options)
    return {"loss": loss, "prepare": one_hot}


def smooth_loss(outputs: Any, targets: Any) -> Any:
    return F.cross_entropy(outputs, targets, label_smoothing=0.1)


def test_label_smoothing() -> None:
    assert_equivalent(mlp(torch={"loss": smooth_loss}, keras=smoothed(label_smoothing=0.1)))


@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1 * (1 + 1e-6)}, {"label_smoothing": 0.1 * CLASSES / (CLASSES - 1)}],
    ids=["none", "a-millionth-off", "shared-among-the-others"],
)
def test_another_label_smoothing(options: dict[str, Any]) -> None:
    assert_parts_in(run(mlp(torch={"loss": smooth_loss}, keras=smoothed(**options))), "loss")


# Penalties -----------------------------------------------------------------------------------------------------


def regularized(regularizer: Callable[[], Any]) -> Callable[[], Any]:
    def build() -> Any:
        hidden = keras.layers.Dense(HIDDEN, activation="tanh", name="hidden", kernel_regularizer=regularizer())
        return keras.Sequential([keras.Input((FEATURES,)), hidden, keras.layers.Dense(CLASSES, name="head")])

    return build


def squares(factor: float) -> Callable[[Any], Any]:
    return lambda model: factor * model[0].weight.square().sum()


def magnitudes(factor: float) -> Callable[[Any], Any]:
    return lambda model: factor * model[0].weight.abs().sum()


def both(factor: float) -> Callable[[Any], Any]:
    return lambda model: squares(factor)(model) + magnitudes(factor)(model)


PENALTIES = {
    "L2": (squares, lambda a: keras.regularizers.L2(a)),
    "L1": (magnitudes, lambda a: keras.regularizers.L1(a)),
    "both": (both, lambda a: keras.regularizers.L1L2(a, a)),
}


@pytest.mark.parametrize("kind", PENALTIES)
def test_penalties(kind: str) -> None:
    ours, theirs = PENALTIES[kind]
    assert_equivalent(mlp(torch={"penalty": ours(0.01)}, keras={"build": regularized(lambda: theirs(0.01))}))


def test_a_regularizer_that_was_made_before_the_run() -> None:
    made = keras.regularizers.L1(0.01)
    assert_equivalent(mlp(torch={"penalty": magnitudes(0.01)}, keras={"build": regularized(lambda: made)}))


@pytest.mark.parametrize("factor", [2.0, 1 + 1e-6])
@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_the_factor_of_a_penalty(kind: str, factor: float) -> None:
    ours, theirs = PENALTIES[kind]
    result = run(mlp(torch={"penalty": ours(0.01)}, keras={"build": regularized(lambda: theirs(0.01 * factor))}))
    assert_parts_in(result, "loss")
    assert parted(result, "loss") == {"penalty", "total"}
    assert parted(result, "gradient") == {"0.weight"}


@pytest.mark.parametrize(("decay", "same"), [(0.02, True), (0.01, False)])
def test_a_penalty_is_half_a_decay(decay: float, same: bool) -> None:
    """Keras's L2(a) adds a*sum(w^2), PyTorch's decay a*w to the gradient: the loss tells them apart at any rate."""

    def optimizer(parameters: Any) -> Any:
        parameters = list(parameters)
        return torch_sgd([{"params": parameters[:1], "weight_decay": decay}, {"params": parameters[1:]}])

    pair = mlp(
        torch={"optimizer": optimizer},
        keras={"build": regularized(lambda: keras.regularizers.L2(0.01)), "optimizer": lambda: TorchSGD(0.1)},
    )
    result = run(pair, steps=1)
    assert_parts_in(result, "loss")
    assert parted(result, "update") == (set() if same else {"0.weight"})


def test_a_penalty_on_one_side_alone() -> None:
    result = run(mlp(keras={"build": regularized(lambda: keras.regularizers.L2(0.01))}))
    assert_parts_in(result, "loss")
    assert parted(result, "loss") == {"penalty", "total"}


# Losses of the model's own ---------------------------------------------------------------------------------------


def with_own_loss(factor: float = 1.0) -> Any:
    class Own(keras.Sequential):
        def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None) -> Any:
            each = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
            return factor * keras.ops.mean(each)

    return Own(keras_mlp().layers, name="sequential")


def test_a_model_that_makes_its_loss_itself_needs_none() -> None:
    keras_side = {"build": with_own_loss, "loss": None}
    assert_equivalent(mlp(keras=keras_side), steps=1)
    result = run(mlp(keras={**keras_side, "build": lambda: with_own_loss(1 + 1e-9)}), steps=1)
    assert_parts_in(result, "loss")
    assert parted(result, "loss") == {"total"}
