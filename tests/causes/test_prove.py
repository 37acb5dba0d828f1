"""What confirms a cause, and what is only likely."""

from __future__ import annotations

import math

from xcheck.causes.prove import Trial, prove, state
from xcheck.records.result import Cause

CAUSE = Cause("anything", "loss", "a", "b", "they differ")


def test_two_inputs_confirm() -> None:
    made = prove(CAUSE, [Trial(0.5, 1e-12, 1e-9), Trial(0.1, 1e-11, 1e-9)])
    assert state(made) == "confirmed"
    assert made.evidence == {"before": 0.5, "after": 1e-11, "allowed": 1e-9, "inputs": 2}


def test_one_number_that_comes_out_is_likely() -> None:
    assert state(prove(CAUSE, [Trial(0.5, 1e-12, 1e-9)])) == "likely"


def test_many_numbers_of_one_input_confirm() -> None:
    assert state(prove(CAUSE, [Trial(0.5, 1e-12, 1e-9, numbers=40)])) == "confirmed"


def test_an_input_where_it_does_not_come_out_refutes() -> None:
    assert not prove(CAUSE, [Trial(0.5, 1e-12, 1e-9, 40), Trial(0.5, 0.4, 1e-9, 40)]).confirmed
    assert not prove(CAUSE, [Trial(0.5, math.nan, 1e-9, 40)]).confirmed


def test_an_input_without_a_difference_says_nothing() -> None:
    made = prove(CAUSE, [Trial(0.5, 1e-12, 1e-9), Trial(0.0, 0.0, 1e-9)])
    assert state(made) == "likely"
    assert state(prove(CAUSE, [Trial(0.0, 0.0, 1e-9, 40)])) == "described"
