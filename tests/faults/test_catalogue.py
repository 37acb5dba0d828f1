"""The catalogue of faults: large enough, the same for a seed, and a few of each kind found with their cause."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import bench_faults
import pytest
from bench_faults import FAULTS, Outcome
from planting import planted

pytestmark = pytest.mark.slow

EVERY = planted(FAULTS, seed=0)
BY_NAME = {one.name: one for one in EVERY}


def test_there_are_enough():
    assert len({fault.id for fault in FAULTS}) == len(FAULTS) >= 100
    assert len(EVERY) >= 200
    assert {fault.id for fault in FAULTS} == {one.fault.id for one in EVERY}  # each has a net that can have it
    assert min(Counter(one.host for one in EVERY).values()) >= 40


def test_a_seed_says_it_all():
    assert [(p.name, p.side, p.place) for p in planted(FAULTS, 0)] == [(p.name, p.side, p.place) for p in EVERY]
    again = {p.name: p for p in planted(FAULTS, 1)}
    assert sum(again[one.name].faulty != one.faulty for one in EVERY) > 0.7 * len(EVERY)


def test_every_fault_changes_its_net():
    assert [one.name for one in EVERY if one.faulty == one.healthy] == []


FEW = [
    "norm_epsilon@mlp",
    "residual_missing@mlp",
    "factor@embedder",
    "unbiased@embedder",
    "softmax_twice@mlp",
    "no_momentum@embedder",
    "amsgrad@mlp",
    "halved_by_hand@mlp",
    "no_decay@mlp",
    "no_clip@embedder",
    "zero_grad_forgotten@unet",
    "micro_batches_summed@mlp",
]


@pytest.mark.parametrize("name", FEW)
def test_a_fault_is_found_where_it_is_and_named(name):
    outcome = bench_faults.outcome_of(BY_NAME[name], rules=False)
    assert not outcome.error
    assert (outcome.found, outcome.right_phase, outcome.first is not False) == (True, True, True), outcome
    assert (outcome.named, outcome.wrong) == (True, ()), outcome


@pytest.mark.parametrize("name", ["norm_epsilon@mlp", "unbiased@embedder"])
def test_the_net_without_it_is_equivalent(name):
    outcome = bench_faults.healthy(BY_NAME[name])
    assert (outcome.verdict, outcome.causes) == ("EQUIVALENT", ())
    assert set(outcome.rules.values()) == {False}  # and nothing else sees a difference


def test_the_rules_in_use_see_a_large_fault_and_not_a_small_one():
    factor, small = bench_faults.outcome_of(BY_NAME["factor@embedder"]), BY_NAME["unbiased@embedder"]
    assert factor.rules["outputs 1e-3"]
    assert factor.rules["gradients, torch.testing"]
    assert not bench_faults.outcome_of(small).rules["outputs 1e-3"]


def test_a_table_counts_what_went_wrong():
    right = Outcome("a@mlp", "one", found=True, right_phase=True, right_step=True, first=True, three=True, named=True)
    wrong = replace(right, name="b@mlp", named=False, wrong=("epsilon",), first=False, family="two")
    rows = {row[0]: row for row in bench_faults.table([right, wrong, Outcome("c@mlp without it", "healthy")])}
    assert rows["one"][1:9] == ("1", "100%", "100%", "100%", "100%", "100%", "100%", "0")
    assert rows["all"][1:9] == ("2", "100%", "100%", "100%", "50%", "100%", "50%", "1")
    assert "| `b@mlp` |" in bench_faults.page([right, wrong], "run")
