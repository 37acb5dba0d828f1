"""Batches made from the given ones find what these do not reach, and nothing else."""

from typing import Any

import numpy as np
import pytest
from fakes import linear_pair

import xcheck


def torch_net(how: str) -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            if how == "pairs" and len(x) < 2:
                raise ValueError("Expected more than one example")
            x = self.a(x)
            x = torch.clamp(x, -6, 6) if how == "clamp" else torch.nn.functional.softplus(x)
            return self.b(x if x.ndim == 2 else x.max(1).values if how == "ties" else x.amax(1))

    return Net()


def keras_net(how: str, shape: tuple[int | None, ...]) -> Any:
    import keras
    from keras import layers, ops

    inputs = keras.Input(shape)
    x = layers.Dense(5, name="a")(inputs)
    x = x if how == "clamp" else ops.softplus(x)
    x = x if len(shape) == 1 else ops.max(x, axis=1)
    return keras.Model(inputs, layers.Dense(2, name="b")(x))


MAP = {f"{n}.{w}": f"{n}/{v}" for n in "ab" for w, v in (("weight", "kernel"), ("bias", "bias"))}


def data(shape: tuple[int, ...], labels: bool = False) -> Any:
    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            targets = rng.integers(1, 2, 6) if labels else rng.standard_normal((6, 2))
            yield xcheck.Batch(rng.standard_normal((6, *shape)), targets)

    return batches


def check(how: str = "", shape: tuple[int, ...] = (3,), reach: Any = "full", **options: Any) -> xcheck.Result:
    torch, keras = options.pop("torch", {}), options.pop("keras", {})
    free = (None, *shape[1:]) if len(shape) > 1 and options.pop("free", False) else shape
    pair = xcheck.Pair(
        "reach",
        xcheck.TorchSide(lambda: torch_net(how), **torch),
        xcheck.KerasSide(lambda: keras_net(how, free), **keras),
        data(shape, options.pop("labels", False)),
        weight_map=MAP,
    )
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, reach=reach, **options)


def first(result: xcheck.Result) -> tuple[str, str]:
    """The phase of the first difference, and the batch that it is on."""
    where = {(c.phase, c.step): c.further for c in result.checks if c.verdict == "DIFFERENT"}
    assert result.first_divergence is not None
    at = result.first_divergence
    return at.phase, where[at.phase, at.step]


def test_a_threshold_is_found_where_the_given_numbers_do_not_reach_it_and_the_report_says_on_which_batch():
    assert check("clamp", reach="none").verdict == "EQUIVALENT"
    result = check("clamp", reach="default")
    assert result.verdict == "DIFFERENT"
    assert first(result) == ("forward", "on the given batch times 20")
    assert "first difference in forward on the given batch times 20" in " ".join(result.report().split())
    (note,) = [n for n in result.notes if n.endswith("shows the difference")]
    assert note.startswith("on the given batch times 20, example ")
    assert "alone of 6" in note


def test_a_healthy_pair_is_the_same_on_all_of_them_and_they_are_counted():
    result = check(shape=(4, 3), free=True)
    result.assert_equivalent(strict=True)
    assert result.coverage["made batches"]["compared"] >= 12
    assert result.coverage["made batches"]["left out"] == 0
    assert not any(c.further.startswith("on the given batch") for c in result.checks)


def test_a_softplus_that_is_linear_far_from_zero_is_the_same():
    assert check().verdict == "EQUIVALENT"


def test_clipping_that_no_gradient_of_a_given_batch_reaches():
    def clipped() -> Any:
        import keras

        return keras.optimizers.SGD(0.01, global_clipnorm=50.0)

    result = check(keras={"optimizer": clipped, "loss": "mean_squared_error"}, torch={"loss": squared})
    phase, where = first(result)
    assert phase == "update"
    assert where.startswith("on the given batch")
    assert [(c.id, c.confirmed) for c in result.causes] == [("clipping", True)]


def squared(outputs: Any, targets: Any) -> Any:
    return ((outputs - targets) ** 2).mean()


def entropy(ignored: int) -> Any:
    def loss(outputs: Any, targets: Any) -> Any:
        import torch

        return torch.nn.functional.cross_entropy(outputs, targets, ignore_index=ignored)

    return loss


def keras_entropy(targets: Any, outputs: Any) -> Any:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(targets, outputs)


@pytest.mark.parametrize("ignored", [0, -100])
def test_a_label_that_one_loss_leaves_out_and_no_given_batch_has(ignored):
    result = check(labels=True, torch={"loss": entropy(ignored)}, keras={"loss": keras_entropy})
    if ignored:
        assert result.verdict == "EQUIVALENT"
    else:
        assert first(result) == ("loss", "on the given batch with labels of every class")


def test_another_number_of_examples():
    def sixth(outputs: Any, targets: Any) -> Any:
        return ((outputs - targets) ** 2).sum() / 12

    result = check(torch={"loss": sixth}, keras={"loss": "mean_squared_error"})
    assert first(result) == ("loss", "on the given batch cut to one example")


def test_ties_are_found_by_a_full_reach_alone_and_only_where_they_are_shared_out_otherwise():
    assert check("ties", shape=(4, 3), reach="default").verdict == "EQUIVALENT"
    result = check("ties", shape=(4, 3))
    assert first(result) == ("gradient", "on the given batch with some weights set to 0, which makes equal numbers")


def test_what_one_side_alone_does_not_take_is_left_out_with_its_reason():
    result = check("pairs")
    assert result.verdict == "EQUIVALENT"
    (note,) = [n for n in result.notes if "one example" in n]
    assert note.startswith("not covered: the given batch cut to one example (the torch side refuses it: Expected")


def test_a_side_that_prepares_as_many_examples_always_is_given_no_other_number():
    def weighed(batch: Any) -> Any:
        return batch.inputs, batch.targets, np.ones(6)

    result = check(torch={"loss": squared}, keras={"loss": "mean_squared_error", "prepare": weighed})
    assert result.verdict == "EQUIVALENT"
    assert "not covered: sample weights other than 1 (all that the keras side prepares are 1)" in result.notes
    assert any("prepare of the keras side always returns 6 examples" in n for n in result.notes)


def test_none_makes_no_batch_and_the_sides_are_left_as_they_were():
    (without, made) = (xcheck.check(linear_pair(), steps=2, reach=reach) for reach in ("none", "full"))
    assert "made batches" not in without.coverage
    assert made.coverage["made batches"]["compared"]
    assert without.checks == made.checks


def test_a_difference_of_the_given_batches_is_not_looked_for_again():
    result = xcheck.check(
        linear_pair(keras={"fault": lambda record: record}), steps=1, phases=["forward"], reach="full"
    )
    assert "made batches" not in result.coverage
    assert not any("not covered" in n for n in result.notes)


def test_a_reach_that_does_not_exist_is_refused():
    with pytest.raises(xcheck.errors.PairError, match="Unknown reach 'far'"):
        xcheck.check(linear_pair(), reach="far")


def test_a_default_reach_is_a_number_of_batches_and_says_what_it_left(monkeypatch):
    monkeypatch.setattr("xcheck.phases.reach.USUAL", 2)
    result = check("", reach="default")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["made batches"]["compared"] == 2
    assert any("only with --reach full" in note for note in result.notes)
