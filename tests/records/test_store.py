"""What is kept once, in memory or on disk."""

from __future__ import annotations

import gc
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import xcheck
from xcheck.frameworks.torch.runner import TorchRunner
from xcheck.records import memory_needed
from xcheck.records.inventory import Entry, Inventory
from xcheck.records.store import LEAST, Store, same_bits
from xcheck.stepping.lockstep import reference_steps

SIDE = 100
"""Of a square matrix that is large enough to be looked up."""


@pytest.fixture(params=[False, True], ids=["memory", "disk"])
def store(request: pytest.FixtureRequest) -> Store:
    made = Store()
    made.on_disk = request.param
    return made


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE))


def test_what_is_read_twice_is_kept_once(store: Store) -> None:
    live = values()
    first = store.keep(live)
    assert store.keep(live) is first
    assert first is not live
    live[50, 50] += 1
    assert first[50, 50] != live[50, 50]
    assert store.keep(live) is not first
    assert np.array_equal(store.keep(live), live)


def test_one_bit_is_another_value(store: Store) -> None:
    zeros = np.zeros((SIDE, SIDE))
    first = store.keep(zeros)
    zeros[37, 41] = -0.0
    second = store.keep(zeros)
    assert second is not first
    assert np.signbit(second[37, 41])
    assert not np.signbit(first[37, 41])
    nan = np.full((SIDE, SIDE), np.nan)
    assert store.keep(nan) is store.keep(nan.copy())
    assert not same_bits(zeros.T, zeros)


def test_another_shape_or_dtype_is_another_value(store: Store) -> None:
    ones = np.ones((SIDE, SIDE))
    kept = store.keep(ones)
    assert store.keep(ones.reshape(-1)).shape == (SIDE * SIDE,)
    assert store.keep(ones.view(np.int64)).dtype == np.int64
    assert store.keep(ones) is kept


def test_what_is_kept_cannot_be_written_to(store: Store) -> None:
    with pytest.raises(ValueError, match="read-only"):
        store.keep(values())[0, 0] = 1


def test_what_nobody_holds_is_forgotten(store: Store) -> None:
    for seed in range(5):
        store.keep(values(seed))
    gc.collect()
    assert not store._known


def test_files_go_with_the_last_array_that_reads_them() -> None:
    store = Store()
    store.on_disk = True

    def open_files() -> int:
        folder = Path("/proc/self/fd")
        return len(os.listdir(folder)) if folder.is_dir() else 0

    before = open_files()
    kept = [store.keep(values(seed)) for seed in range(3)]
    store.release()
    assert all(np.array_equal(array, values(seed)) for seed, array in enumerate(kept))
    del store, kept
    gc.collect()
    assert open_files() == before


def test_what_a_side_is_given_stands_for_a_copy_only_if_it_cannot_change() -> None:
    store, other = Store(), Store()
    lasting, changing = store.keep(values(1)), values(2)
    held = other.adopt([lasting, changing, lasting.T])
    assert [a is lasting for a in held] == [True]
    assert other.keep(lasting.copy()) is lasting
    assert other.keep(changing.copy()) is not changing


def test_a_step_starts_with_the_arrays_that_the_one_before_it_ended_with() -> None:
    side = xcheck.TorchSide(
        lambda: torch.nn.Linear(SIDE, SIDE, bias=False), optimizer=lambda p: torch.optim.Adam(p, lr=0.01)
    )
    runner = TorchRunner(side, precision="float64", device="cpu", seed=0)
    batches = [xcheck.Batch(np.random.default_rng(i).standard_normal((2, SIDE))) for i in range(2)]
    records = [step.record for step in reference_steps(runner, batches, precision="float64", seed=0, twins=1)]
    for one, two in pairwise(records):
        assert one.after.parameters["weight"] is two.before.parameters["weight"]
        assert one.after.slots["weight"]["second_moment"] is two.before.slots["weight"]["second_moment"]
    assert not np.array_equal(records[0].after.parameters["weight"], records[0].before.parameters["weight"])
    start = runner.snapshot()
    runner.step(3, batches[0])
    runner.restore(start)
    assert runner.read().parameters["weight"] is records[1].after.parameters["weight"]
    runner.close()


def of(count: int) -> Inventory:
    entry = Entry("w", (count,), "float64", True, False, "", "Linear", "weight", 1, 1)
    return Inventory((entry,))


def test_little_memory_is_told_and_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    monkeypatch.setattr(memory_needed, "available", lambda: 18 * gib)
    monkeypatch.setattr(memory_needed, "total", lambda: 24 * gib)
    assert memory_needed.needs_disk("torch", of(gib // 16)) is None
    told = memory_needed.needs_disk("torch", of(gib // 8))
    assert told is not None
    assert "134 M parameters on the torch side, 1.0 GiB a copy" in told
    assert "36 GiB, and 18 GiB are free" in told
    assert "too much" not in told
    assert "--free-steps 0" in (memory_needed.needs_disk("torch", of(gib // 4)) or "")
    with pytest.raises(xcheck.XcheckError, match="enough memory"):
        memory_needed.needs_disk("torch", of(gib))
    monkeypatch.setattr(memory_needed, "available", lambda: None)
    assert memory_needed.needs_disk("torch", of(gib)) is None
    assert LEAST < SIDE * SIDE * 8


def test_what_the_machine_has_is_read() -> None:
    free, has = memory_needed.available(), memory_needed.total()
    assert free is not None
    assert has is not None
    assert 0 < free <= has
