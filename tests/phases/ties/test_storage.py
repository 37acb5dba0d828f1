"""Ties by effect: who moves when another one is changed."""

import numpy as np
import pytest
from fakes import linear_pair, runner_of

from xcheck.frameworks.fake.runner import NumpyRunner
from xcheck.phases.ties.storage import probed
from xcheck.records.trace import State


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize("tied", [True, False])
def test_probing_finds_what_identity_tells_and_leaves_no_trace(side, tied):
    runner = runner_of(linear_pair(**{side: {"copies": 2, "tied": tied}}), side)
    before = runner.read()
    assert probed(runner).tie_groups() == runner.inventory().tie_groups()
    after = runner.read()
    assert [v.tobytes() for v in before.parameters.values()] == [v.tobytes() for v in after.parameters.values()]


class Hidden(NumpyRunner):
    """Two parameters over one piece of memory, which the inventory does not tell."""

    def write(self, state: State) -> None:
        super().write(state)
        for first, second in ((self._weight, self._copy(1)), (self._copy(1), self._weight)):
            if first in state.parameters:
                self._parameters[second] = self._parameters[first]


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_what_moves_together_is_one_storage_though_no_identity_says_so(side):
    declared = getattr(linear_pair(**{side: {"copies": 2, "tied": False}}), side)
    runner = Hidden(declared, precision="float64", device="cpu", seed=0)
    weight, copy = runner._weight, runner._copy(1)
    assert not runner.inventory().same_storage([weight, copy])
    found = probed(runner)
    assert found.same_storage([weight, copy])
    assert len(found.tie_groups()) == len(found.entries) - 1


def test_equal_values_are_no_tie():
    runner = runner_of(linear_pair(torch={"copies": 3, "tied": False}), "torch")
    same = runner.read().parameters
    assert np.array_equal(same["linear.weight"], same["linear_1.weight"])
    assert probed(runner).ties() == ()
