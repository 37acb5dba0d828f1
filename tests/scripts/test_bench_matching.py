"""The bench of matching counts what is matched wrongly."""

from __future__ import annotations

import bench_matching as bench
import pytest


@pytest.mark.parametrize("different", [False, True])
def test_a_chain_is_matched_without_a_mistake(different):
    seconds, wrong = bench.measured(60, different)
    assert wrong == 0
    assert seconds > 0
