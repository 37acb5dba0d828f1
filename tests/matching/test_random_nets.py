"""Random nets matched without a map: a wrong guess is never claimed, nor taken for a difference of the port."""

from __future__ import annotations

import pytest
from bench_random_matching import MOST_LINES, judged
from random_nets import described, planted

from xcheck.matching import matcher, search

SEEDS = range(40, 52)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_net_is_not_different_and_no_wrong_match_is_claimed(seed: int) -> None:
    outcome = judged(described(seed), frameworks=False)
    assert outcome.verdict in ("EQUIVALENT", "INCONCLUSIVE"), outcome
    assert not outcome.claimed, outcome
    assert outcome.lines is not None, f"more than {MOST_LINES} lines of a map are needed"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_planted_fault_is_different_whichever_match_is_right(seed: int) -> None:
    net = planted(described(seed))
    assert judged(net, frameworks=False).verdict == "DIFFERENT", net.fault


@pytest.mark.parametrize("seed", [70047, 70639, 70751, 70216])
def test_places_are_read_from_values_that_say_something(seed: int) -> None:
    """A sum with what is mostly zero keeps its least and largest number; behind a ReLU all may be zero."""
    outcome = judged(described(seed), frameworks=False)
    assert (outcome.verdict, outcome.wrong) == ("EQUIVALENT", ()), outcome


@pytest.mark.parametrize("seed", [40, 43, 46, 49, 90016, 90051, 90112, 90167])
def test_where_the_search_fails_nothing_is_different(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_LOOKS", 8)
    monkeypatch.setattr(matcher, "in_place", lambda groups, *_: (list(groups), set()))
    assert judged(described(seed), frameworks=False).verdict != "DIFFERENT"


def test_and_with_a_fault_it_is_not_equivalent_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_LOOKS", 8)
    monkeypatch.setattr(matcher, "in_place", lambda groups, *_: (list(groups), set()))
    verdicts = {judged(planted(described(seed)), frameworks=False).verdict for seed in SEEDS[:6]}
    assert "EQUIVALENT" not in verdicts


@pytest.mark.parametrize(("seed", "fault"), [(41, False), (42, True)])
def test_the_same_nets_in_both_frameworks(seed: int, fault: bool) -> None:
    net = planted(described(seed)) if fault else described(seed)
    outcome = judged(net, frameworks=True)
    assert outcome.verdict == ("DIFFERENT" if fault else "EQUIVALENT"), outcome
    assert (outcome.claimed, outcome.blamed) == ((), False), outcome
