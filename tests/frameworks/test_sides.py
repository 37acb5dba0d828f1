"""Sides are opened one run at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import keras
from ports import mlp

import xcheck


def test_runs_in_several_threads_wait_for_each_other() -> None:
    before = keras.config.floatx()
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(xcheck.check, mlp(), steps=1, free_steps=1) for _ in range(3)]
        assert [run.result().verdict for run in running] == ["EQUIVALENT"] * 3
    assert keras.config.floatx() == before
