"""Declarations refuse what cannot be used, when they are made."""

import numpy as np
import pytest
from fakes import batches, linear_pair

from xcheck import Batch, Expectation, KerasSide, Pair, TorchSide, Verdict, copies, waive
from xcheck.errors import BatchError, PairError

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize("inputs", [X, {"a": X, "b": X[:, :1]}, (X, X)])
def test_a_batch_takes_one_array_or_a_dict_or_a_tuple(inputs):
    batch = Batch(inputs, {"y": np.array([1, 0, 2])}, {"output": np.array([True, False, True])})
    assert batch.size == 3
    assert batch.terms() == (X.size if inputs is X else 9 if isinstance(inputs, dict) else 12)


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"inputs": [[1.0]]}, "Batch.inputs"),
        ({"inputs": {"a": X, "b": 3.0}}, "Batch.inputs['b']"),
        ({"inputs": (X, None)}, "Batch.inputs[1]"),
        ({"targets": "labels"}, "Batch.targets"),
        ({"targets": np.array(["cat", "dog", "cat"])}, "Batch.targets"),
        ({"inputs": np.array([object(), None])}, "Batch.inputs"),
        ({"inputs": np.array(1.0)}, "Batch.inputs"),
        ({"inputs": np.zeros((0, 2))}, "Batch.inputs"),
        ({"compare": {"output": np.array([1, 0, 1])}}, "Batch.compare['output']"),
    ],
)
def test_what_is_no_numeric_array_with_a_batch_axis_is_refused_with_its_place(parts, where):
    with pytest.raises(BatchError) as caught:
        Batch(**{"inputs": X, **parts})
    assert where in str(caught.value)


@pytest.mark.parametrize("inputs", [None, {}, ()])
def test_a_batch_without_any_input_is_refused(inputs):
    with pytest.raises(BatchError):
        Batch(inputs)


def test_the_digest_of_a_batch_follows_every_part_of_it():
    base = {"inputs": {"a": X}, "targets": np.array([1, 0, 2]), "compare": {"output": np.array([True, False, True])}}
    changed = X.copy()
    changed[2, 1] = np.nextafter(changed[2, 1], 9)
    variants = [
        {},
        {"inputs": {"a": changed}},
        {"inputs": {"b": X}},
        {"inputs": (X,)},
        {"inputs": {"a": X.reshape(2, 3)}},
        {"inputs": {"a": X.astype(np.float32)}},
        {"targets": None},
        {"targets": np.array([1, 2, 0])},
        {"compare": None},
        {"compare": {"output": np.array([True, True, True])}},
    ]
    digests = [Batch(**{**base, **variant}).digest() for variant in variants]
    assert len(set(digests)) == len(variants)
    assert Batch(**base).digest() == digests[0]


def test_the_digest_of_equal_batches_is_equal():
    assert Batch(np.asfortranarray(X)).digest() == Batch(X).digest()
    assert Batch(X.T.copy().T).digest() == Batch(X).digest()


def test_the_digest_does_not_depend_on_the_order_in_which_a_dict_was_filled():
    assert Batch({"a": X, "b": 2 * X}).digest() == Batch({"b": 2 * X, "a": X}).digest()


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_waiver_needs_a_reason(reason):
    assert waive("why").reason == "why"
    with pytest.raises(PairError, match="needs a reason"):
        waive(reason)


@pytest.mark.parametrize("name", ["loss", "optimizer", "penalty", "prepare", "step", "after_step", "outputs"])
def test_a_part_of_the_torch_side_must_be_callable(name):
    with pytest.raises(PairError, match=rf"TorchSide\.{name} is not callable"):
        TorchSide(build=object(), **{name: "adam"})


@pytest.mark.parametrize("name", ["optimizer", "prepare", "outputs"])
def test_a_part_of_the_keras_side_must_be_callable(name):
    with pytest.raises(PairError, match=rf"KerasSide\.{name} is not callable"):
        KerasSide(build=object(), **{name: "adam"})


def test_the_loss_of_the_keras_side_is_whatever_compile_takes():
    assert KerasSide(build=object(), loss="mse").loss == "mse"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "folder name"),
        ({"name": "a/b"}, "folder name"),
        ({"batches": [Batch(X)]}, "batches is not callable"),
        ({"reference": "jax"}, "reference must be"),
        ({"torch": KerasSide(object())}, "torch got a KerasSide"),
        ({"keras": TorchSide(object())}, "keras got a TorchSide"),
        ({"expect": "different"}, "expect must be a verdict"),
        ({"also": ("exports",)}, "also must be a list of phases"),
        ({"also": "modes"}, "also must be a list of phases"),
    ],
)
def test_a_pair_with_a_part_that_cannot_be_is_refused(options, words):
    parts = {"name": "p", "torch": TorchSide(object()), "keras": KerasSide(object()), "batches": batches}
    with pytest.raises(PairError, match=words):
        Pair(**{**parts, **options})


def anything(*_):
    pass


@pytest.mark.parametrize(
    ("torch", "keras", "words"),
    [
        ({}, {"loss": "mse"}, "Only the Keras side has a loss"),
        ({}, {"optimizer": anything}, "Only the Keras side has an optimizer"),
        ({"loss": anything}, {"loss": "mse", "optimizer": anything}, None),
        ({"step": anything}, {"loss": "mse"}, None),
        ({}, {}, None),
        ({"optimizer": anything}, {"optimizer": anything}, None),
    ],
)
def test_a_loss_or_an_optimizer_of_one_side_alone_is_refused(torch, keras, words):
    def make() -> Pair:
        return Pair("p", TorchSide(object(), **torch), KerasSide(object(), **keras), batches)

    if words is None:
        assert make().name == "p"
    else:
        with pytest.raises(PairError, match=words):
            make()


def test_an_expectation_may_be_a_word_a_verdict_or_more():
    assert linear_pair(expect="DIFFERENT").expect == Expectation(Verdict.DIFFERENT)
    assert linear_pair(expect=Verdict.NUMERIC).expect == Expectation(Verdict.NUMERIC)
    more = Expectation(Verdict.DIFFERENT, "update", "adam_epsilon")
    assert linear_pair(expect=more).expect is more


def test_an_expectation_of_a_verdict_that_does_not_exist_is_refused():
    assert Expectation("DIFFERENT").verdict is Verdict.DIFFERENT
    with pytest.raises(PairError, match="verdict must be a verdict"):
        Expectation("different")


def test_an_expectation_in_a_phase_that_does_not_exist_is_refused():
    with pytest.raises(PairError, match="phase 'updates' is not a phase"):
        Expectation(Verdict.DIFFERENT, "updates")


@pytest.mark.parametrize("paths", [(), ("a/kernel",), ("a/kernel", "a/kernel")])
def test_copies_are_at_least_two(paths):
    with pytest.raises(PairError, match="at least two"):
        copies(*paths)
    assert copies("a/kernel", "b/kernel").paths == ("a/kernel", "b/kernel")
