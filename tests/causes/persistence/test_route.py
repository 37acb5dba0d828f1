"""Faults become causes: one per thing lost, whatever the number of routes that lose it."""

from __future__ import annotations

import pytest

from xcheck.causes.persistence.route import EXPLANATIONS, persistence_causes
from xcheck.records.reload import Fault


def fault(id_="value_not_saved", route="a", names=("x.weight",), explained=True):
    return Fault(id_, route, names, "said", explained)


def test_routes_that_lose_the_same_are_one_cause():
    (cause,) = persistence_causes("torch", [fault(route="a"), fault(route="b")])
    assert (cause.id, cause.phase, cause.torch, cause.keras) == ("value_not_saved", "persistence", "x.weight", None)
    assert cause.evidence["routes"] == "a, b"
    assert cause.confirmed


def test_different_things_are_different_causes():
    faults = [fault(), fault(names=("y.weight",)), fault("state_not_saved")]
    assert len(persistence_causes("keras", faults)) == 3


def test_what_does_not_explain_the_difference_on_every_route_is_not_confirmed():
    (cause,) = persistence_causes("torch", [fault(route="a"), fault(route="b", explained=False)])
    assert not cause.confirmed
    assert cause.evidence["same_step_when_set_back"] is False


@pytest.mark.parametrize("id_", EXPLANATIONS)
@pytest.mark.parametrize("side", ["torch", "keras"])
def test_every_cause_names_what_was_lost_and_its_side(id_, side):
    (cause,) = persistence_causes(side, [fault(id_)])
    assert cause.summary.startswith(f"{side}: ")
    assert "{" not in cause.summary
    assert getattr(cause, side) == "x.weight"


def test_no_fault_is_no_cause():
    assert persistence_causes("torch", []) == []
