"""Matches between parts and sums: state there, gradients back, and what is covered."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import entry, inventory

from xcheck.errors import MatchError
from xcheck.matching import plan_from_map
from xcheck.pairs.pair import waive
from xcheck.records.trace import State

QKV = inventory(entry("a.qkv", (6, 4), "Packed"), entry("a.bias", (6,), "Packed"))
THREE = inventory(
    *(entry(f"{n}/kernel", (4, 2), "Dense") for n in "qkv"), *(entry(f"{n}/bias", (2,), "Dense") for n in "qkv")
)
BLOCKS = {
    **{f"a.qkv[{i}/3]": (f"{n}/kernel", "transpose") for i, n in enumerate("qkv")},
    **{f"a.bias[{i}/3]": f"{n}/bias" for i, n in enumerate("qkv")},
}
PACKED = State(
    {"a.qkv": np.arange(24.0).reshape(6, 4), "a.bias": np.arange(6.0)},
    slots={"a.qkv": {"first_moment": -np.arange(24.0).reshape(6, 4), "momentum_product": np.array(0.5)}},
    updates=2,
)


def test_one_parameter_is_split_over_several_variables_and_put_together_again():
    plan = plan_from_map(QKV, THREE, BLOCKS)
    assert (plan.unmatched_torch, plan.unmatched_keras) == ((), ())
    sent = plan.for_follower(PACKED, slots=True)
    assert sent.parameters["k/kernel"].tolist() == PACKED.parameters["a.qkv"][2:4].T.tolist()
    assert sent.parameters["v/bias"].tolist() == [4.0, 5.0]
    assert np.array_equal(sent.slots["q/kernel"]["first_moment"], -PACKED.parameters["a.qkv"][:2].T)
    assert [sent.slots[f"{n}/kernel"]["momentum_product"] for n in "qkv"] == [0.5] * 3
    back = replace(plan, reference="keras").for_follower(sent, slots=True)
    for path, array in PACKED.parameters.items():
        assert np.array_equal(back.parameters[path], array)
    assert np.array_equal(back.slots["a.qkv"]["first_moment"], PACKED.slots["a.qkv"]["first_moment"])
    assert back.slots["a.qkv"]["momentum_product"] == 0.5


def test_a_part_has_the_name_that_a_weight_map_gives_it():
    names = [m.name("torch") for m in plan_from_map(QKV, THREE, BLOCKS).matches]
    assert names[:4] == ["a.qkv[0:2]", "a.qkv[2:4]", "a.qkv[4:6]", "a.bias[0:2]"]


def test_what_only_a_part_of_is_matched_is_unmatched():
    less = {k: v for k, v in BLOCKS.items() if k != "a.qkv[1/3]"}
    plan = plan_from_map(QKV, THREE, less)
    assert plan.unmatched_torch == ("a.qkv",)
    assert plan.unmatched_keras == ("k/kernel",)
    back = replace(plan, reference="keras").for_follower(
        State({f"{n}/{r}": np.ones((4, 2) if r == "kernel" else 2) for n in "qkv" for r in ("kernel", "bias")}),
        slots=False,
    )
    assert np.array_equal(back.parameters["a.qkv"][:, 0], [1, 1, 0, 0, 1, 1])  # what nobody has is zero


def test_blocks_that_overlap_do_not_stand_for_what_they_leave_out():
    blocks = {"a.qkv[0/3]": "q/kernel", "a.qkv[0:2]": "k/kernel", "a.qkv[2/3]": "v/kernel"}
    plan = plan_from_map(QKV, THREE, {key: (target, "transpose") for key, target in blocks.items()})
    assert "a.qkv" in plan.unmatched_torch


def test_every_nth_block_of_an_interleaved_parameter_is_a_part():
    torch = inventory(entry("qkv", (12, 5), "Packed"))  # heads 2, of q k v, of size 2
    weight_map = {f"qkv[{2 * i}:{2 * i + 2} of 6]": (f"{n}/kernel", "split_heads") for i, n in enumerate("qkv")}
    keras = inventory(*(entry(f"{n}/kernel", (5, 2, 2), "EinsumDense") for n in "qkv"))
    plan = plan_from_map(torch, keras, weight_map)
    assert plan.unmatched_torch == ()
    array = np.arange(60.0).reshape(12, 5)
    sent = plan.for_follower(State({"qkv": array}), slots=False).parameters
    assert np.array_equal(sent["k/kernel"][:, 1, 0], array.reshape(2, 3, 2, 5)[1, 1, 0])
    back = replace(plan, reference="keras").for_follower(State(sent), slots=False)
    assert np.array_equal(back.parameters["qkv"], array)


# Sums ------------------------------------------------------------------------------------------------------------

CELL = inventory(
    *(entry(f"r.weight_{n}", (8, 2), "LSTMCell") for n in ("ih", "hh")),
    entry("r.bias_ih", (8,), "LSTMCell"),
    entry("r.bias_hh", (8,), "LSTMCell"),
)
LAYER = inventory(
    entry("r/kernel", (2, 8), "LSTMCell"), entry("r/recurrent_kernel", (2, 8), "LSTMCell"),
    entry("r/bias", (8,), "LSTMCell"),
)  # fmt: skip
WEIGHTS = {"r.weight_ih": "r/kernel", "r.weight_hh": "r/recurrent_kernel"}
STATE = State(
    {"r.weight_ih": np.zeros((8, 2)), "r.weight_hh": np.zeros((8, 2)), "r.bias_ih": np.arange(8.0),
     "r.bias_hh": np.full(8, 10.0)},
    slots={f"r.bias_{n}": {"momentum": np.full(8, v), "first_moment": np.full(8, 7.0)}
           for n, v in (("ih", 1.0), ("hh", 2.0))},
)  # fmt: skip


@pytest.mark.parametrize(
    "biases", [{"r.bias_ih + r.bias_hh": "r/bias"}, {"r.bias_ih": "r/bias"}, {"r.bias_hh": "r/bias"}]
)
def test_two_biases_are_one_as_soon_as_either_is_named(biases):
    plan = plan_from_map(CELL, LAYER, {**WEIGHTS, **biases})
    assert (plan.unmatched_torch, plan.unmatched_keras) == ((), ())
    assert plan.matches[-1].name("torch") == "r.bias_ih + r.bias_hh"
    sent = plan.for_follower(STATE, slots=True)
    assert sent.parameters["r/bias"].tolist() == (np.arange(8.0) + 10).tolist()
    assert sent.slots["r/bias"]["momentum"].tolist() == [3.0] * 8  # in units of the weight
    assert sent.slots["r/bias"]["first_moment"].tolist() == [7.0] * 8  # in units of the gradient, which both have


def test_a_waived_bias_is_no_part_of_the_sum():
    plan = plan_from_map(CELL, LAYER, {**WEIGHTS, "r.bias_ih": "r/bias", "r.bias_hh": waive("zero")})
    assert plan.matches[-1].name("torch") == "r.bias_ih"
    assert plan.waived == {"r.bias_hh": "zero"}


def test_the_first_trained_term_gets_the_value_and_every_trained_one_its_moments():
    frozen = inventory(*(replace(e, trainable=e.role != "bias_ih") for e in CELL.entries))
    for torch, holder in ((CELL, "r.bias_ih"), (frozen, "r.bias_hh")):
        plan = plan_from_map(torch, LAYER, {**WEIGHTS, "r.bias_ih": "r/bias"}, "keras")
        values = {"r/kernel": np.zeros((2, 8)), "r/recurrent_kernel": np.zeros((2, 8)), "r/bias": np.arange(8.0)}
        slots = {"r/bias": {"momentum": np.full(8, 3.0), "first_moment": np.full(8, 7.0)}}
        sent = plan.for_follower(State(values, slots=slots), slots=True)
        other = "r.bias_hh" if holder == "r.bias_ih" else "r.bias_ih"
        assert sent.parameters[holder].tolist() == list(range(8))
        assert not sent.parameters[other].any()
        assert sent.slots[holder]["momentum"].tolist() == [3.0] * 8
        assert sent.slots[holder]["first_moment"].tolist() == [7.0] * 8
        both = torch is CELL
        assert sent.slots[other].get("first_moment", np.zeros(8)).tolist() == ([7.0] * 8 if both else [0.0] * 8)
        assert not sent.slots[other].get("momentum", np.zeros(8)).any()


def test_each_trained_term_has_a_gradient_of_its_own():
    plan = plan_from_map(CELL, LAYER, {**WEIGHTS, "r.bias_ih": "r/bias"})
    names = [(m.name("torch"), m.name("keras")) for m in plan.trained]
    assert names[2:] == [("r.bias_ih", "r/bias"), ("r.bias_hh", "r/bias")]


# Offsets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "target"), [("n.weight + 1", "n/scale"), ("n.weight", "n/scale - 1"), ("n.weight + 1.0", "n/scale")]
)
def test_a_number_is_added_to_values_and_not_to_what_they_change_by(key, target):
    torch, keras = inventory(entry("n.weight", (3,), "Norm")), inventory(entry("n/scale", (3,), "Norm"))
    plan = plan_from_map(torch, keras, {key: target})
    slots = {"n.weight": {"first_moment": np.ones(3)}}
    sent = plan.for_follower(State({"n.weight": np.arange(3.0)}, slots=slots), slots=True)
    assert sent.parameters["n/scale"].tolist() == [1.0, 2.0, 3.0]
    assert sent.slots["n/scale"]["first_moment"].tolist() == [1.0] * 3
    back = replace(plan, reference="keras").for_follower(sent, slots=False)
    assert back.parameters["n.weight"].tolist() == [0.0, 1.0, 2.0]


# Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a.qkv[0:7]": ("q/kernel", "transpose")}, ["is outside the 6", "a.qkv[0:7]"]),
        ({"a.qkv[0/4]": ("q/kernel", "transpose")}, ["not 4 equal blocks"]),
        ({"a.qkv[0:2, :, :]": ("q/kernel", "transpose")}, ["3 axes, the array 2"]),
        ({"a.qkv[first]": ("q/kernel", "transpose")}, ["'first'"]),
        ({"a.qkv[0:2] + a.bias": ("q/kernel", "transpose")}, ["different shapes", "(6, 4), (6,)"]),
        ({"a.qkw[0:2]": ("q/kernel", "transpose")}, ["'a.qkw'", "did you mean 'a.qkv'"]),
        ({"a.qkv + a.qkx": ("q/kernel", "transpose")}, ["'a.qkx'"]),
        ({"a.qkv[0:2]": ("q/kernel", "o i -> i k")}, ["layout that does not exist", "different axes left and right"]),
        ({"a.qkv[0:2]": ("q/kernel", "identity")}, ["'identity' does not convert", "a.qkv[0:2]"]),
        ({"a.qkv[0:2]": "q/kernel"}, ["No layout is known", '"a.qkv[0:2]": ("q/kernel", "transpose")']),
    ],
)
def test_a_part_that_makes_no_sense_is_a_mistake_of_the_map(weight_map, words):
    with pytest.raises(MatchError) as caught:
        plan_from_map(QKV, THREE, weight_map)
    for word in words:
        assert word in str(caught.value)


def test_a_path_that_exists_is_never_taken_apart():
    torch = inventory(entry("a + b.w[0]", (3,), "Norm"))
    keras = inventory(entry("n [0:2]", (3,), "Norm"))
    (match,) = plan_from_map(torch, keras, {"a + b.w[0]": "n [0:2]"}).matches
    assert (match.torch, match.keras, match.plain) == ("a + b.w[0]", "n [0:2]", True)
