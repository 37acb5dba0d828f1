"""An explicit weight map over two inventories: matches, layouts, waivers and buffers."""

import numpy as np
import pytest
from fakes import entry, inventory

from xcheck.errors import MatchError
from xcheck.matching import plan_from_map
from xcheck.pairs.pair import waive
from xcheck.records.trace import State

TORCH = inventory(
    entry("embed.weight", (5, 3), "Embedding", object_="tied"),
    entry("conv.weight", (4, 2, 3, 3), "Conv2d"),
    entry("norm.weight", (4,), "BatchNorm2d"),
    entry("norm.running_mean", (4,), "BatchNorm2d", buffer=True, trainable=False),
    entry("norm.running_var", (4,), "BatchNorm2d", buffer=True, trainable=False),
    entry("norm.num_batches_tracked", (), "BatchNorm2d", buffer=True, trainable=False, dtype="int64"),
    entry("head.weight", (5, 3), "Linear", object_="tied"),
)
KERAS = inventory(
    entry("conv/kernel", (3, 3, 2, 4), "Conv2D"),
    entry("norm/gamma", (4,), "BatchNormalization"),
    entry("norm/moving_mean", (4,), "BatchNormalization", buffer=True, trainable=False),
    entry("norm/moving_variance", (4,), "BatchNormalization", buffer=True, trainable=False),
    entry("embed/embeddings", (5, 3), "Embedding"),
)
MAP = {"embed.weight": "embed/embeddings", "conv.weight": "conv/kernel", "norm.weight": "norm/gamma"}


def one(kind: str, torch_shape, keras_kind: str, keras_shape, role="weight", keras_role="kernel"):
    """A side of one parameter each."""
    return (
        inventory(entry(f"a.{role}", torch_shape, kind)),
        inventory(entry(f"a/{keras_role}", keras_shape, keras_kind)),
        {f"a.{role}": f"a/{keras_role}"},
    )


def test_the_layout_follows_from_the_layer_kinds():
    plan = plan_from_map(TORCH, KERAS, MAP)
    assert {(m.torch, m.keras, m.layout.name) for m in plan.parameters} == {
        ("embed.weight", "embed/embeddings", "identity"),
        ("conv.weight", "conv/kernel", "conv"),
        ("norm.weight", "norm/gamma", "identity"),
    }
    assert (plan.unmatched_torch, plan.unmatched_keras, dict(plan.waived)) == ((), (), {})


def test_buffers_follow_the_layer_whose_parameters_are_mapped():
    plan = plan_from_map(TORCH, KERAS, MAP)
    assert [(m.torch, m.keras) for m in plan.buffers] == [
        ("norm.running_mean", "norm/moving_mean"),
        ("norm.running_var", "norm/moving_variance"),
    ]
    assert [m.buffer for m in plan.matches] == [False] * 3 + [True] * 2
    assert plan.unmatched_buffers == (("torch", "norm.num_batches_tracked"),)


def test_buffers_of_a_layer_that_is_not_mapped_have_no_counterpart():
    plan = plan_from_map(TORCH, KERAS, {k: v for k, v in MAP.items() if k != "norm.weight"})
    assert plan.buffers == ()
    assert ("torch", "norm.running_mean") in plan.unmatched_buffers
    assert ("keras", "norm/moving_mean") in plan.unmatched_buffers
    assert (plan.unmatched_torch, plan.unmatched_keras) == (("norm.weight",), ("norm/gamma",))


def test_any_alias_of_a_shared_parameter_stands_for_it():
    by_alias = plan_from_map(TORCH, KERAS, {**MAP, "head.weight": ("embed/embeddings", "identity")})
    assert by_alias == plan_from_map(TORCH, KERAS, MAP)
    only_alias = {k: v for k, v in MAP.items() if k != "embed.weight"}
    only_alias["head.weight"] = ("embed/embeddings", "identity")
    plan = plan_from_map(TORCH, KERAS, only_alias)
    assert plan.unmatched_torch == ()
    assert {m.torch for m in plan.parameters} == {"embed.weight", "conv.weight", "norm.weight"}


def test_one_parameter_may_have_several_copies_in_keras():
    keras = inventory(*(entry(f"d{i}/kernel", (3, 5), "Dense") for i in range(3)))
    torch = inventory(entry("l.weight", (5, 3), "Linear"))
    plan = plan_from_map(torch, keras, {"l.weight": ["d0/kernel", "d1/kernel"]})
    assert [(m.torch, m.keras, m.layout.name) for m in plan.matches] == [
        ("l.weight", "d0/kernel", "transpose"),
        ("l.weight", "d1/kernel", "transpose"),
    ]
    assert plan.unmatched_keras == ("d2/kernel",)


@pytest.mark.parametrize(
    ("torch_trains", "keras_trains", "trainable"), [(True, True, True), (True, False, True), (False, False, False)]
)
def test_a_match_is_trained_if_either_side_trains_it(torch_trains, keras_trains, trainable):
    torch = inventory(entry("a.weight", (2, 3), "Linear", trainable=torch_trains))
    keras = inventory(entry("a/kernel", (3, 2), "Dense", trainable=keras_trains))
    (match,) = plan_from_map(torch, keras, {"a.weight": "a/kernel"}).matches
    assert match.trainable is trainable
    assert (match.shape("torch"), match.shape("keras")) == ((2, 3), (3, 2))


def test_what_the_map_leaves_out_is_unmatched_on_both_sides():
    plan = plan_from_map(TORCH, KERAS, {})
    assert plan.unmatched_torch == ("embed.weight", "conv.weight", "norm.weight")  # an alias is no second parameter
    assert plan.unmatched_keras == ("conv/kernel", "norm/gamma", "embed/embeddings")


def test_a_waiver_leaves_out_a_parameter_of_either_side_and_keeps_its_reason():
    rest = {"conv.weight": "conv/kernel", "norm.weight": "norm/gamma"}
    reasons = {"head.weight": waive("frozen"), "embed/embeddings": waive("made elsewhere")}
    plan = plan_from_map(TORCH, KERAS, {**rest, **reasons})
    assert plan.waived == {"embed.weight": "frozen", "embed/embeddings": "made elsewhere"}
    assert (plan.unmatched_torch, plan.unmatched_keras) == ((), ())


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"conv.wieght": "conv/kernel"}, ["torch parameter", "'conv.wieght'", "did you mean 'conv.weight'"]),
        ({"conv.weight": "conv/kernal"}, ["keras parameter", "'conv/kernal'", "did you mean 'conv/kernel'"]),
        ({"weight": "conv/kernel"}, ["torch parameter", "'weight'"]),
        ({"kernel": waive("x")}, ["parameter that does not exist", "'kernel'"]),
        ({"conv.weight": ["conv/kernel", "conv/kernel2"]}, ["keras parameter", "'conv/kernel2'"]),
    ],
)
def test_a_path_that_does_not_exist_is_named_with_the_closest_ones(weight_map, words):
    with pytest.raises(MatchError) as caught:
        plan_from_map(TORCH, KERAS, weight_map)
    for word in words:
        assert word in str(caught.value)


def test_a_path_on_a_side_without_any_is_named_too():
    with pytest.raises(MatchError, match="does not exist") as caught:
        plan_from_map(TORCH, inventory(), {"conv.weight": "conv/kernel"})
    assert "this side has no parameters" in str(caught.value)


def test_a_layout_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(MatchError, match="layout that does not exist") as caught:
        plan_from_map(TORCH, KERAS, {"conv.weight": ("conv/kernel", "convolution")})
    assert "'convolution'" in str(caught.value)
    assert "conv_transpose" in str(caught.value)


def test_two_layer_kinds_without_a_known_layout_ask_for_its_name():
    torch, keras, weight_map = one("MyLinear", (4, 4), "MyDense", (4, 4))
    with pytest.raises(MatchError, match="No layout is known") as caught:
        plan_from_map(torch, keras, weight_map)
    assert "MyLinear.weight (4, 4) -> MyDense.kernel (4, 4)" in str(caught.value)
    assert "identity, transpose" in str(caught.value)
    assert '("a/kernel", "identity")' in str(caught.value)
    (match,) = plan_from_map(torch, keras, {"a.weight": ("a/kernel", "transpose")}).matches
    assert match.layout.name == "transpose"


def test_vectors_and_numbers_of_unknown_kinds_have_one_order_only():
    (match,) = plan_from_map(*one("MyScale", (4,), "MyGain", (4,))).matches
    assert match.layout.name == "identity"
    with pytest.raises(MatchError, match="No layout is known"):
        plan_from_map(*one("MyScale", (4,), "MyGain", (3,)))


def test_the_gates_of_a_gru_bias_are_not_taken_to_be_in_one_order():
    sides = one("GRUCell", (6,), "GRUCell", (6,), role="bias_ih", keras_role="bias")
    try:
        (match,) = plan_from_map(*sides).matches
    except MatchError:
        return
    assert match.layout.name == "gru_bias"


def test_a_promised_layout_that_does_not_fit_is_refused_with_those_that_would():
    with pytest.raises(MatchError, match="'transpose' does not convert one shape into the other") as caught:
        plan_from_map(*one("Linear", (2, 3), "Dense", (2, 3)))
    assert "layouts that fit the shapes: identity" in str(caught.value)
    with pytest.raises(MatchError) as caught:
        plan_from_map(*one("Linear", (2, 3), "Dense", (3, 5)))
    assert "no known layout fits" in str(caught.value)


def test_a_named_layout_that_does_not_fit_is_refused():
    torch, keras, _ = one("Linear", (2, 3), "Dense", (3, 2))
    with pytest.raises(MatchError, match="'identity' does not convert"):
        plan_from_map(torch, keras, {"a.weight": ("a/kernel", "identity")})


@pytest.mark.parametrize("target", [3, None, 1.5])
def test_a_target_that_is_none_of_the_allowed_kinds_is_a_mistake_of_the_map(target):
    with pytest.raises(MatchError):
        plan_from_map(TORCH, KERAS, {"conv.weight": target})


STATE = State(
    {"embed.weight": np.arange(15.0).reshape(5, 3), "conv.weight": np.arange(72.0).reshape(4, 2, 3, 3),
     "norm.weight": np.arange(4.0)},
    {"norm.running_mean": np.ones(4), "norm.running_var": np.full(4, 2.0), "norm.num_batches_tracked": np.array(3)},
    {"conv.weight": {"first_moment": -np.arange(72.0).reshape(4, 2, 3, 3), "momentum_product": np.array(0.5)}},
    updates=3,
)  # fmt: skip


def test_a_state_goes_to_the_other_side_in_its_names_and_layouts():
    sent = plan_from_map(TORCH, KERAS, MAP).for_follower(STATE, slots=True)
    kernel = STATE.parameters["conv.weight"].transpose(2, 3, 1, 0)
    assert set(sent.parameters) == {"embed/embeddings", "conv/kernel", "norm/gamma"}
    assert np.array_equal(sent.parameters["conv/kernel"], kernel)
    assert set(sent.buffers) == {"norm/moving_mean", "norm/moving_variance"}
    assert np.array_equal(sent.buffers["norm/moving_variance"], np.full(4, 2.0))
    assert np.array_equal(sent.slots["conv/kernel"]["first_moment"], -kernel)
    assert sent.slots["conv/kernel"]["momentum_product"] == 0.5
    assert sent.updates == 3
    assert not any(plan_from_map(TORCH, KERAS, MAP).for_follower(STATE, slots=False).slots.values())


def test_a_state_goes_the_other_way_when_keras_is_the_reference():
    forth = plan_from_map(TORCH, KERAS, MAP, "torch").for_follower(STATE, slots=True)
    back = plan_from_map(TORCH, KERAS, MAP, "keras").for_follower(forth, slots=True)
    assert set(back.parameters) == set(STATE.parameters)
    for path, array in STATE.parameters.items():
        assert np.array_equal(back.parameters[path], array)
    moment = back.slots["conv.weight"]["first_moment"]
    assert np.array_equal(moment, STATE.slots["conv.weight"]["first_moment"])


# Ties ------------------------------------------------------------------------------------------------------------
