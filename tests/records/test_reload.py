"""A rebuilt model against its original: which entry is which, and which ties are others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import entry, inventory

from xcheck.records.inventory import Inventory
from xcheck.records.reload import carried, counterparts, equal, same_bits, tie_changes
from xcheck.records.trace import State


def tied(*groups: str) -> Inventory:
    """One entry per path; a group of paths is "a=b" (one object) or "a~b" (one memory, two objects)."""
    entries = []
    for number, group in enumerate(groups):
        for part in group.split("~"):
            for path in part.split("="):
                entries.append(replace(entry(path, (2, 2), "Linear"), identity=part, storage=number))
    return inventory(*entries)


def test_equal_paths_belong_together():
    before, after = tied("a.w", "b.w"), tied("b.w", "a.w")
    assert counterparts(before, after) == {"a.w": "a.w", "b.w": "b.w"}


def test_layers_numbered_anew_are_told_by_their_order():
    before = inventory(entry("block/dense_1/kernel", (2, 2), "Dense"), entry("block/dense_2/kernel", (2, 2), "Dense"))
    after = inventory(entry("block/dense/kernel", (2, 2), "Dense"), entry("block/dense_1/kernel", (2, 2), "Dense"))
    assert counterparts(before, after) == {
        "block/dense/kernel": "block/dense_1/kernel",
        "block/dense_1/kernel": "block/dense_2/kernel",
    }


def test_a_copy_stands_for_what_it_is_numbered_after():
    kernel, other = entry("emb/kernel", (7, 4), "Embedding"), entry("head/kernel", (7, 4), "Dense")
    after = inventory(kernel, other, replace(entry("emb/kernel#2", (7, 4), "Embedding"), role="kernel"))
    assert counterparts(inventory(kernel, other), after)["emb/kernel#2"] == "emb/kernel"


def test_what_is_like_nothing_has_no_counterpart():
    kernel = entry("a/kernel", (7, 4), "Dense")
    assert counterparts(inventory(kernel), inventory(kernel, entry("b/kernel", (3, 4), "Dense"))) == {
        "a/kernel": "a/kernel"
    }


@pytest.mark.parametrize(
    ("before", "after", "loss", "parts"),
    [
        (["a=b", "c"], ["a~b", "c"], "parameters", (("a",), ("b",))),
        (["a=b", "c"], ["a", "b", "c"], "variables", (("a",), ("b",))),
        (["a~b", "c"], ["a", "b", "c"], "views", (("a",), ("b",))),
        (["a", "b", "c"], ["a=b", "c"], "joined", (("a", "b"),)),
        (["a=b=c"], ["a=b", "c"], "variables", (("a", "b"), ("c",))),
    ],
)
def test_a_tie_that_changed_is_named_by_how(before, after, loss, parts):
    (change,) = tie_changes(tied(*before), tied(*after))
    assert (change.loss, change.parts) == (loss, parts)


@pytest.mark.parametrize("groups", [["a", "b"], ["a=b", "c"], ["a~b", "c"], ["a=b~c"]])
def test_ties_that_are_the_same_are_no_change(groups):
    assert tie_changes(tied(*groups), tied(*groups)) == []


def test_a_state_is_carried_to_every_copy():
    value = np.arange(4.0).reshape(2, 2)
    state = State({"a": value}, {}, {"a": {"momentum": value}}, 3)
    there = carried(state, tied("a=b"), tied("a", "b"), slots=True)
    assert same_bits(there.parameters, {"a": value, "b": value})
    assert there.slots["b"]["momentum"] is value
    assert carried(state, tied("a=b"), tied("a", "b"), slots=False).slots == {}
    assert there.updates == 3


def test_bits_count():
    one = np.ones(2)
    assert equal(one, one.copy())
    assert equal(np.array([np.nan]), np.array([np.nan]))
    assert not equal(one, one + np.finfo(float).eps)
    assert not equal(one, one.astype("float32"))
    assert not same_bits({"a": one}, {"b": one})
