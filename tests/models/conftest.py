"""Each pair of the repository is checked once, without its map; its tests look at what was found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from curves import assert_stayed_inside

import xcheck
from xcheck.pairs.loading import load_pair

STEPS, FREE_STEPS = 5, 8
STEPS_OF_VARIANTS, FREE_STEPS_OF_VARIANTS = 2, 2
"""A variant is the same machinery as its pair."""

ROUTES = {
    "torch": {"state_dict", "assign=True", "safetensors", "deepcopy", "to(dtype)"},
    "keras": {".keras", ".weights.h5", "clone_model", "from_config"},
}
"""The ways to save that each side is checked with."""


def assert_ties_followed(result: xcheck.Result) -> None:
    """Each tie was looked at after the build, the sync, every step and each way to save, and stayed."""
    for tie in result.ties:
        stages = tie.stages
        assert set(tie.uses) == {"torch", "keras"}
        assert min(tie.uses.values()) > 0
        assert stages["build"]["torch"] == {"build": "tied"}
        assert set(stages["sync"]["torch"].values()) == {"same"}
        assert set(stages["sync"]["keras"].values()) == {"same" if tie.tied("keras") else "apart"}
        for side, routes in ROUTES.items():
            assert set(stages["step"][side]) == {f"step {n}" for n in range(1, result.steps + 1)}
            if tie.tied(side):
                assert set(stages["save"][side]) == routes
                assert set(stages["save"][side].values()) <= {"same", "untied by design"}


@cache
def _checked(spec: str, steps: int) -> xcheck.Result:
    pair = load_pair(spec)
    exemplary = pair.expect is None and spec.partition(":")[2] in ("", "CORRECTED")
    expected = getattr(pair.expect, "phase", None)
    # Exporting takes longer than everything else; and saving a control says nothing of what it is a control of.
    also = tuple(p for p in pair.also if p == "persistence" and (exemplary or expected == p))
    free_steps = FREE_STEPS_OF_VARIANTS if ":" in spec else FREE_STEPS
    if exemplary:  # tests/matching/test_models.py holds that the map says what is found without it
        pair = replace(pair, weight_map=None)
    result = xcheck.check(replace(pair, also=also), steps=steps, free_steps=free_steps, precision=["float64"])
    if pair.expect is None:
        assert_stayed_inside(result, free_steps)
    if exemplary:
        assert_ties_followed(result)
    return result


@pytest.fixture(scope="session")
def checked() -> Any:
    """(name of a pair, steps) -> its result in float64, made once in a session."""

    def check(spec: str, steps: int | None = None) -> xcheck.Result:
        spec = spec.removesuffix(":PAIR")
        return _checked(spec, steps or (STEPS_OF_VARIANTS if ":" in spec else STEPS))

    return check


@pytest.fixture(scope="session")
def uses() -> Any:
    """(result, parameter) -> the names of its uses, each of which agrees in every step and all of which sum up."""

    def agreeing(result: xcheck.Result, parameter: str) -> list[str]:
        of_it = [c for c in result.checks if c.phase == "gradient" and c.torch and c.torch.startswith(parameter)]
        assert all(c.verdict == "EQUIVALENT" for c in of_it)
        assert any(c.name == f"uses of {parameter} sum to its gradient" for c in of_it)
        head = f"{parameter} via "
        return [c.name.removeprefix(head) for c in of_it if c.step == 1 and c.name.startswith(head)]

    return agreeing
