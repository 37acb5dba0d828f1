"""The run that never stops against the one that was saved and loaded, without a framework."""

from __future__ import annotations

from itertools import islice

import numpy as np
from fakes import batches, linear_pair, runner_of

from xcheck.errors import UserCodeError
from xcheck.frameworks.fake.runner import NumpyPersistence
from xcheck.records.reload import Route
from xcheck.stepping.saving import NUDGE, after_reload


def taken(spoil=None, several=2):
    pair = linear_pair(torch={"spoil": spoil})
    runner = runner_of(pair, "torch")
    return runner, dict(after_reload(runner, islice(batches(0), several), seed=0))


def test_each_route_takes_the_second_step_from_what_was_saved():
    _, found = taken()
    assert [route.name for route in found] == ["all", "parameters"]
    for step, reloaded in found.values():
        assert step.record.step == reloaded.record.step == 2
        assert step.twins == ()  # where every bit agrees nobody asks for noise
        for path, value in step.record.after.parameters.items():
            np.testing.assert_array_equal(value, reloaded.record.after.parameters[path])
        assert reloaded.mended is None


def test_where_the_optimizer_stays_behind_both_start_with_a_fresh_one():
    _, found = taken()
    (kept, with_), (fresh, without) = found.values()
    assert with_.loaded.slots
    assert not without.loaded.slots
    path = "linear.weight"
    assert not np.array_equal(kept.record.after.parameters[path], fresh.record.after.parameters[path])


def test_no_fresh_model_starts_from_what_is_saved():
    runner = runner_of(linear_pair(), "torch")
    runner.step(1, next(batches(0)))
    trained = runner.read().parameters
    _, found = taken()
    for _, reloaded in found.values():
        for path, value in reloaded.saved.parameters.items():
            moved = np.abs(value / trained[path] - 1)
            assert np.all((moved > 0) & (moved <= NUDGE + 1e-6))
            np.testing.assert_array_equal(value, value.astype("float32"))


def test_a_zero_gets_a_value_of_its_own():
    runner = runner_of(linear_pair(torch={"learning_rate": 0.0}), "torch")
    runner._parameters["linear.bias"] = np.zeros(2)
    found = dict(after_reload(runner, islice(batches(0), 2), seed=0))
    (_, reloaded), *_ = found.values()
    assert np.all(reloaded.saved.parameters["linear.bias"] > 0)
    assert len(set(reloaded.saved.parameters["linear.bias"])) == 2


def test_one_batch_serves_for_both_steps():
    _, found = taken(several=1)
    assert all(reloaded.mended is None for _, reloaded in found.values())


def test_what_was_lost_is_set_back_for_a_second_try():
    def forget(runner):
        runner._parameters["linear.bias"] = runner._parameters["linear.bias"] + 1

    _, found = taken(forget)
    for step, reloaded in found.values():
        assert len(step.twins) == 2
        assert not np.array_equal(reloaded.record.losses["total"], step.record.losses["total"])
        assert reloaded.mended is not None
        np.testing.assert_array_equal(reloaded.mended.losses["total"], step.record.losses["total"])


def test_a_route_that_does_not_run_is_told_and_the_others_go_on(monkeypatch):
    ways = NumpyPersistence.reload

    def reload(self, route: Route, folder, batch):
        if route.name == "all":
            raise UserCodeError("no such thing")
        return ways(self, route, folder, batch)

    monkeypatch.setattr(NumpyPersistence, "reload", reload)
    _, found = taken()
    broken, works = found.values()
    assert isinstance(broken, UserCodeError)
    assert not isinstance(works, UserCodeError)
