"""The bench of matching counts what is matched wrongly."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "scripts" / "bench_matching.py"
SPEC = importlib.util.spec_from_file_location("bench_matching", PATH)
assert SPEC is not None
assert SPEC.loader is not None
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)


@pytest.mark.parametrize("different", [False, True])
def test_a_chain_is_matched_without_a_mistake(different):
    seconds, wrong = bench.measured(60, different)
    assert wrong == 0
    assert seconds > 0
