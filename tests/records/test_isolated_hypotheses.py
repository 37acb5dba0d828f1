"""A hypothesis that raises costs itself: the verdict, the place and the other causes stand, and a note says so."""

from __future__ import annotations

from typing import Any

import pytest
from ports import CLASSES, FEATURES, HIDDEN, keras_sgd, mlp

import xcheck
from xcheck.causes.forward import families as forward
from xcheck.errors import UserCodeError
from xcheck.records.isolated_hypotheses import isolated, nothing, noting_faults

QUICK: dict[str, Any] = {"steps": 1, "precision": ("float64",), "free_steps": 0}


def test_what_raises_within_a_run_is_noted_with_its_name_and_outside_of_one_is_raised() -> None:
    @isolated(list)
    def broken_causes() -> list[int]:
        raise KeyError("nobody")

    notes: list[str] = []
    with noting_faults(notes):
        assert broken_causes() == []
    assert len(notes) == 1
    assert "bug in xcheck" in notes[0]
    assert "broken_causes raised KeyError: 'nobody'" in notes[0]
    assert "test_isolated_hypotheses.py:" in notes[0]
    with pytest.raises(KeyError):
        broken_causes()


def test_what_works_leaves_no_note_and_what_the_user_raises_passes() -> None:
    @isolated(nothing, "one")
    def two(fails: bool) -> int:
        if fails:
            raise UserCodeError("the user's")
        return 2

    notes: list[str] = []
    with noting_faults(notes):
        assert two(False) == 2
        with pytest.raises(UserCodeError):
            two(True)
    assert notes == []


def relu() -> Any:
    """The net of `mlp` with another function in it."""
    import keras
    from keras import layers

    hidden = layers.Dense(HIDDEN, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((FEATURES,)), hidden, layers.Dense(CLASSES, name="head")])


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("planted")


@pytest.mark.parametrize("fails", [(), ("xcheck.causes.explain.partings",), ("xcheck.causes.explain.loss_search",)])
def test_a_difference_in_the_model_stands_where_the_search_for_it_fails(monkeypatch: Any, fails: tuple[str]) -> None:
    for name in fails:
        monkeypatch.setattr(name, broken)
    result = xcheck.check(mlp(keras={"build": relu}), **QUICK)
    first = result.first_divergence
    assert result.verdict == "DIFFERENT"
    assert first is not None
    assert first.phase == "forward"
    faults = [note for note in result.notes if "bug in xcheck" in note]
    searched = fails != ("xcheck.causes.explain.loss_search",) and fails
    assert len(faults) == (1 if searched else 0)
    assert all("ZeroDivisionError: planted" in fault for fault in faults)
    assert bool(result.causes) is not bool(searched)


def test_one_form_that_fails_does_not_cost_the_cause_that_another_finds(monkeypatch: Any) -> None:
    named = isolated(list, "planted form")(broken)
    monkeypatch.setattr(forward, "FREE", ())  # so that all are asked
    monkeypatch.setattr(forward, "ASKED", (named, *forward.ASKED))
    result = xcheck.check(mlp(keras={"build": relu}), **QUICK)
    assert [cause.confirmed for cause in result.causes] == [True]
    assert any("planted form raised ZeroDivisionError" in note for note in result.notes)


def test_an_update_that_differs_stands_where_its_recipe_cannot_be_read(monkeypatch: Any) -> None:
    monkeypatch.setattr("xcheck.causes.explain.update_causes", isolated(list, "update_causes")(broken))
    result = xcheck.check(mlp(keras={"optimizer": lambda: keras_sgd(0.05)}), **QUICK)
    first = result.first_divergence
    assert (result.verdict, first and first.phase) == ("DIFFERENT", "update")
    assert any("update_causes raised ZeroDivisionError" in note for note in result.notes)
