"""Each pair of the repository is checked once; its tests look at what was found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

import xcheck
from xcheck.loading import load_pair

STEPS = 5


@cache
def _checked(spec: str, steps: int) -> xcheck.Result:
    pair = load_pair(spec)
    expected = getattr(pair.expect, "phase", None)
    # Exporting takes longer than everything else; and saving a control says nothing of what it is a control of.
    also = tuple(p for p in pair.also if p == "persistence" and (pair.expect is None or expected == p))
    return xcheck.check(replace(pair, also=also), steps=steps, free_steps=3, precision=["float64"])


@pytest.fixture(scope="session")
def checked() -> Any:
    """(name of a pair, steps) -> its result in float64, made once in a session."""

    def check(spec: str, steps: int = STEPS) -> xcheck.Result:
        return _checked(spec.removesuffix(":PAIR"), steps)

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
