"""Inventory and sync: planted faults are found by name."""

import math

import numpy as np
import pytest
from fakes import entry, inventory, linear_pair, plan_of, runner_of

from xcheck.errors import MatchError
from xcheck.matching import plan_from_map
from xcheck.pairs.pair import waive
from xcheck.phases.checks.setup import inventory_checks, sync_checks
from xcheck.phases.ties.groups import ties
from xcheck.records.trace import State

TORCH = inventory(entry("a.weight", (3, 2), "Linear"), entry("a.bias", (3,), "Linear"))
KERAS = inventory(entry("a/kernel", (2, 3), "Dense"), entry("a/bias", (3,), "Dense"))
MAP = {"a.weight": "a/kernel", "a.bias": "a/bias"}


def checks_of(torch=TORCH, keras=KERAS, weight_map=MAP, reference="torch", promised=()):
    plan = plan_from_map(torch, keras, weight_map, reference)
    return inventory_checks(plan, torch, keras, ties(plan, torch, keras), promised)


def brief(checks):
    return [(c.name, c.torch, c.keras, c.verdict.value) for c in checks]


def test_every_parameter_has_a_check_with_the_name_of_its_layout():
    found = checks_of()
    assert brief(found) == [
        ("a.weight", "a.weight", "a/kernel", "EQUIVALENT"),
        ("a.bias", "a.bias", "a/bias", "EQUIVALENT"),
    ]
    assert [c.detail for c in found] == ["transpose", "identity"]
    assert {(c.phase, c.precision, c.step) for c in found} == {("inventory", None, None)}
    assert [c.name for c in checks_of(reference="keras")] == ["a/kernel", "a/bias"]


@pytest.mark.parametrize("frozen", ["torch", "keras"])
def test_a_parameter_that_one_side_alone_trains_is_different(frozen):
    sides = {
        "torch": inventory(TORCH.entries[0], entry("a.bias", (3,), "Linear", trainable=frozen != "torch")),
        "keras": inventory(KERAS.entries[0], entry("a/bias", (3,), "Dense", trainable=frozen != "keras")),
    }
    found = checks_of(**sides)
    assert [c.verdict.value for c in found] == ["EQUIVALENT", "DIFFERENT"]
    words = {"torch": "torch: frozen, keras: trainable", "keras": "torch: trainable, keras: frozen"}
    assert found[1].detail == words[frozen]


def test_parameters_without_a_counterpart_are_inconclusive_on_their_side():
    found = checks_of(weight_map={"a.weight": "a/kernel"})
    assert brief(found)[1:] == [
        ("a.bias", "a.bias", None, "INCONCLUSIVE"),
        ("a/bias", None, "a/bias", "INCONCLUSIVE"),
    ]
    assert "no counterpart on the keras side" in found[1].detail
    assert "no counterpart on the torch side" in found[2].detail


def test_where_everything_is_waived_nothing_is_compared():
    found = checks_of(weight_map={path: waive("no") for path in ("a.weight", "a.bias", "a/kernel", "a/bias")})
    assert brief(found) == [("parameters", None, None, "INCONCLUSIVE")]
    assert brief(checks_of(inventory(), inventory(), {})) == [("parameters", None, None, "INCONCLUSIVE")]


def two(kind: str, paths: tuple[str, str], tied: bool):
    return inventory(*(entry(p, (2, 2), kind, object_="w" if tied else p) for p in paths))


@pytest.mark.parametrize(
    ("tied", "reference", "verdict", "detail"),
    [
        ("both", "torch", "EQUIVALENT", "tied on both sides"),
        ("torch", "torch", "DIFFERENT", "one storage on the torch side, several on the keras side"),
        ("keras", "torch", "DIFFERENT", "one storage on the keras side, several on the torch side"),
        ("torch", "keras", "DIFFERENT", "one storage on the torch side, several on the keras side"),
        ("keras", "keras", "DIFFERENT", "one storage on the keras side, several on the torch side"),
    ],
)
def test_a_tie_that_one_side_lacks_is_different_and_says_which(tied, reference, verdict, detail):
    torch = two("Linear", ("a.weight", "b.weight"), tied != "keras")
    keras = two("Dense", ("a/kernel", "b/kernel"), tied != "torch")
    found = checks_of(torch, keras, {"a.weight": "a/kernel", "b.weight": "b/kernel"}, reference)[-1]
    first = {"torch": "a.weight", "keras": "a/kernel"}[reference]
    assert (found.name, found.torch, found.keras) == (f"tie of {first}", "a.weight = b.weight", "a/kernel = b/kernel")
    assert (found.verdict.value, found.detail) == (verdict, detail)


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("side", ["torch", "keras"])
def test_aliases_that_have_no_counterpart_are_reported_as_unmatched_and_as_no_tie(reference, side):
    torch = two("Linear", ("b.weight", "c.weight"), tied=True) if side == "torch" else inventory()
    keras = two("Dense", ("b/kernel", "c/kernel"), tied=True) if side == "keras" else inventory()
    sides = inventory(*TORCH.entries, *torch.entries), inventory(*KERAS.entries, *keras.entries)
    found = checks_of(*sides, MAP, reference)
    assert [c.verdict.value for c in found] == ["EQUIVALENT", "EQUIVALENT", "INCONCLUSIVE"]
    assert found[-1].name == {"torch": "b.weight", "keras": "b/kernel"}[side]


def test_a_promised_tie_that_does_not_hold_is_different_on_its_side():
    torch = two("Linear", ("a.weight", "b.weight"), tied=False)
    keras = two("Dense", ("a/kernel", "b/kernel"), tied=False)
    weight_map = {"a.weight": "a/kernel", "b.weight": "b/kernel"}
    promised = [["a.weight", "b.weight"], ["a/kernel", "b/kernel"]]
    assert brief(checks_of(torch, keras, weight_map, promised=promised))[2:] == [
        ("promised tie of a.weight", "a.weight = b.weight", None, "DIFFERENT"),
        ("promised tie of a/kernel", None, "a/kernel = b/kernel", "DIFFERENT"),
    ]
    with pytest.raises(MatchError, match="not all on one side"):
        checks_of(torch, keras, weight_map, promised=[["a.weight", "typo"]])


# Sync ------------------------------------------------------------------------------------------------------------


def synced(spoil=None):
    """Checks of a sync in which `spoil` changes what the keras side reads back."""
    pair = linear_pair()
    plan = plan_of(pair)
    wanted = plan.for_follower(runner_of(pair, "torch").read(), slots=False)
    read = {path: array.copy() for path, array in wanted.parameters.items()}
    if spoil:
        spoil(read)
    return sync_checks(plan, "float64", wanted, State(read))


def test_values_that_arrive_bit_for_bit_are_the_same():
    found = synced()
    assert brief(found) == [
        ("linear.weight", "linear.weight", "dense/kernel", "EQUIVALENT"),
        ("linear.bias", "linear.bias", "dense/bias", "EQUIVALENT"),
    ]
    assert {(c.phase, c.precision, c.step, c.error, c.allowed) for c in found} == {("sync", "float64", None, 0.0, 0.0)}


def test_one_rounding_error_on_the_way_is_different():
    def spoil(read):
        read["dense/kernel"][2, 1] = np.nextafter(read["dense/kernel"][2, 1], math.inf)

    wrong, right = synced(spoil)
    assert (wrong.verdict.value, wrong.worst_index, wrong.allowed) == ("DIFFERENT", (2, 1), 0.0)
    assert 0 < wrong.error < 1e-14
    assert right.verdict == "EQUIVALENT"


def test_values_that_were_rounded_to_float32_on_the_way_are_different():
    def spoil(read):
        read["dense/bias"] = read["dense/bias"].astype(np.float32)

    assert [c.verdict.value for c in synced(spoil)] == ["EQUIVALENT", "DIFFERENT"]


def test_another_shape_read_back_is_different_and_shown():
    def spoil(read):
        read["dense/kernel"] = read["dense/kernel"].T

    found = synced(spoil)[0]
    assert (found.verdict.value, found.detail) == ("DIFFERENT", "shape (3, 2) sent, (2, 3) read back")


def test_a_value_that_is_not_a_number_is_different_unless_it_was_sent():
    def spoil(read):
        read["dense/bias"][0] = np.nan

    assert [c.verdict.value for c in synced(spoil)] == ["EQUIVALENT", "DIFFERENT"]
    broken = State({"dense/kernel": np.full((3, 2), np.nan), "dense/bias": np.zeros(2)})
    found = sync_checks(plan_of(linear_pair()), "float64", broken, broken)
    assert [c.verdict.value for c in found] == ["EQUIVALENT", "EQUIVALENT"]


BUFFERED = (
    inventory(*TORCH.entries, entry("a.mean", (3,), "Linear", buffer=True, trainable=False)),
    inventory(*KERAS.entries, entry("a/mean", (3,), "Dense", buffer=True, trainable=False)),
)


def test_buffers_are_synced_too():
    plan = plan_from_map(*BUFFERED, {**MAP, "a.mean": ("a/mean", "identity")})
    sent = State({"a/kernel": np.ones((2, 3)), "a/bias": np.ones(3)}, {"a/mean": np.ones(3)})
    back = State(sent.parameters, {"a/mean": np.zeros(3)})
    found = sync_checks(plan, "float64", sent, back)
    assert [(c.name, c.verdict.value) for c in found][-1] == ("a.mean", "DIFFERENT")


def test_a_frozen_parameter_that_is_a_buffer_on_the_other_side_is_synced_or_refused():
    torch = inventory(entry("scale.value", (2,), "Scale", trainable=False))
    keras = inventory(entry("scale/value", (2,), "Scale", trainable=False, buffer=True))
    try:
        plan = plan_from_map(torch, keras, {"scale.value": "scale/value"})
    except MatchError:
        return
    sent = plan.for_follower(State({"scale.value": np.ones(2)}), slots=False)
    (found,) = sync_checks(plan, "float64", sent, State({}, {"scale/value": np.ones(2)}))
    assert found.verdict == "EQUIVALENT"


def test_a_buffer_that_is_a_frozen_parameter_on_the_other_side_is_compared_as_a_parameter():
    torch = inventory(entry("scale.value", (2,), "Scale", trainable=False, buffer=True))
    keras = inventory(entry("scale/value", (2,), "Scale", trainable=False))
    plan = plan_from_map(torch, keras, {"scale.value": "scale/value"})
    assert [m.torch for m in plan.parameters] == ["scale.value"]
    sent = plan.for_follower(State({}, {"scale.value": np.ones(2)}), slots=False)
    (found,) = sync_checks(plan, "float64", sent, State({"scale/value": np.zeros(2)}))
    assert found.verdict == "DIFFERENT"
