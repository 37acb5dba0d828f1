"""The bench of the free run: it sees every pair, tells a planted fault, and exits with 1 where it should."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from xcheck.pairs.loading import load_pair, named_pairs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> Any:
    return importlib.import_module("bench_free_run")


def test_it_runs_every_pair_that_should_be_equal(bench: Any) -> None:
    assert set(bench.equal_pairs()) == {name for name in named_pairs() if load_pair(name).expect is None}
    pairs = bench.equal_pairs(variants=True)
    assert {name.partition(":")[0] for name in pairs} == set(named_pairs())
    assert not [name for name, pair in pairs.items() if pair.expect is not None]


def test_an_equal_pair_stays_inside_and_the_planted_rate_is_found(bench: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert (
        bench.main(["--steps", "3", "--variants", "--only", "submodel_regularizer", "--write", "--page", str(page)])
        == 0
    )
    rows = [line for line in page.read_text().splitlines() if line.startswith("| shared_submodel_regularizer")]
    assert len(rows) > 1
    assert "| 3 | EQUIVALENT |" in rows[0]
    assert "update 1, trajectory 1" in rows[0]
    frozen = next(row for row in rows if row.startswith("| shared_submodel_regularizer:FROZEN "))
    assert frozen.endswith("nothing to change |")


def test_a_pair_that_is_wrong_and_a_fault_that_is_not_found_fail(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ports import keras_sgd, mlp

    wrong = {"wrong": mlp(keras={"optimizer": lambda: keras_sgd(0.1 * (1 + 1e-9))})}
    monkeypatch.setattr(bench, "equal_pairs", lambda only, variants: wrong)
    assert bench.main(["--steps", "2"]) == 1
    monkeypatch.setattr(bench, "equal_pairs", lambda only, variants: {"equal": mlp()})
    assert bench.main(["--steps", "2"]) == 0
    monkeypatch.setattr(bench, "OFF", 1e-18)
    assert bench.main(["--steps", "2"]) == 1
    monkeypatch.setattr(bench, "equal_pairs", lambda only, variants: {})
    assert bench.main([]) == 1
