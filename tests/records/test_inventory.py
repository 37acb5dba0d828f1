"""Inventories: aliases, views and paths."""

import pytest
from fakes import entry, inventory

W = entry("a.weight", (2, 3), "Linear", object_="w")
ALIAS = entry("b.weight", (2, 3), "Linear", object_="w")
VIEW = entry("c.weight", (3, 2), "Linear", object_="v", storage="w")
BIAS = entry("a.bias", (3,), "Linear")
MEAN = entry("n.running_mean", (3,), "BatchNorm1d", buffer=True, trainable=False)
ALL = inventory(W, BIAS, ALIAS, VIEW, MEAN)


def test_the_size_is_the_number_of_elements():
    assert W.size == 6
    assert entry("s", (), "Scale").size == 1
    assert entry("e", (0, 4), "Embedding").size == 0


def test_two_entries_of_one_path_are_refused_and_named():
    with pytest.raises(ValueError, match=r"\['a.weight'\]"):
        inventory(W, BIAS, W)


def test_a_path_is_found_only_whole():
    assert ALL.find("a.weight") is W
    assert ALL.find("weight") is None
    assert ALL.find("a.weight.") is None


def test_one_object_is_listed_once_and_goes_by_its_first_path():
    assert ALL.canonical() == (W, BIAS, VIEW, MEAN)
    assert ALL.canonical_path("b.weight") == "a.weight"
    assert ALL.canonical_path("c.weight") == "c.weight"  # a view is an object of its own
    assert inventory(ALIAS, W).canonical_path("a.weight") == "b.weight"


def test_parameters_and_buffers_are_apart():
    assert ALL.parameters() == (W, BIAS, VIEW)
    assert ALL.buffers() == (MEAN,)


def test_a_tie_group_holds_aliases_and_views_of_one_storage():
    assert ALL.tie_groups() == (("a.weight", "b.weight", "c.weight"), ("a.bias",), ("n.running_mean",))


def test_one_storage_or_several():
    assert ALL.same_storage(["a.weight", "c.weight", "b.weight"])
    assert not ALL.same_storage(["a.weight", "a.bias"])
    assert ALL.same_storage(path for path in ("a.weight", "b.weight"))


@pytest.mark.parametrize("ask", [lambda i: i.canonical_path("x"), lambda i: i.same_storage(["a.weight", "x"])])
def test_a_path_that_does_not_exist_is_an_error(ask):
    with pytest.raises(KeyError, match="x"):
        ask(ALL)


def test_groups_that_are_joined_take_their_aliases_along():
    held = inventory(
        entry("a", (2,), "Linear", object_="x"),
        entry("alias", (2,), "Linear", object_="x"),
        entry("b", (2,), "Linear"),
        entry("c", (2,), "Linear"),
    )
    assert held.ties() == (("a", "alias"),)
    assert held.joined([("b", "a")]).ties() == (("a", "alias", "b"),)
    assert held.joined([("b", "c"), ("c", "a")]).ties() == (("a", "alias", "b", "c"),)
    assert held.joined([]) == held
