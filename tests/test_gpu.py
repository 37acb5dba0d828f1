"""Runs on a GPU, where there is one that both frameworks see."""

from __future__ import annotations

import pytest
from ports import dilated_conv

import xcheck


@pytest.fixture
def _gpu() -> None:
    import torch

    from xcheck.frameworks.keras.backends import sees_gpu

    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    if not sees_gpu():
        pytest.skip("Keras sees no GPU")


@pytest.mark.gpu
@pytest.mark.usefixtures("_gpu")
def test_the_pair_is_equivalent_on_the_gpu_and_says_where_it_ran() -> None:
    result = xcheck.check(dilated_conv(), steps=2, device="cuda")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.environment["device"] == "cuda"
    assert result.environment["torch"]["gpu"]
    assert result.environment["torch"]["tf32_matmul"] is False
    assert result.environment["torch"]["tf32_cudnn"] is False
    assert result.environment["keras"]["tf32"] is False
    assert result.environment["torch"]["deterministic"] is True


def test_auto_falls_back_to_the_cpu_and_records_the_flags() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = xcheck.check(dilated_conv(), steps=1, free_steps=0, precision=("float64",), device="auto")
    assert result.environment["device"] == "cpu"
    assert result.environment["torch"]["tf32_matmul"] is False
    assert "tf32" in result.environment["keras"]
