"""Settings for the whole test session, made before any framework is imported."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# The models are tiny: a second thread costs more than it brings, and the outputs in the pages show last digits.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Generator[None]:
    """What a test file leaves alive are imports and caches: searching them for garbage took a tenth of the time."""
    yield
    gc.collect()
    gc.freeze()


GIVEN_BATCHES_ONLY = {"causes", "faults", "frameworks", "matching", "onnx", "optim", "stepping", "test_contrast.py"}
GIVEN_BATCHES_ONLY |= {"records", "test_hand_written_optimizers.py", "test_own_steps.py", "test_several_optimizers.py"}
GIVEN_BATCHES_ONLY |= {"test_steps_of_their_own.py", "test_whatever_a_step_keeps.py"}
"""Folders and files whose tests ask something else than what made batches answer; they took a quarter of their time."""


@pytest.fixture(autouse=True)
def _given_batches_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No made batches at the default reach; tests of it, of whole pairs and of published ports make them."""
    if Path(request.path).relative_to(Path(__file__).parent).parts[0] in GIVEN_BATCHES_ONLY:
        monkeypatch.setattr("xcheck.phases.reach.USUAL", 0)
