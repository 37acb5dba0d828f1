"""PyTorch's global switches of precision and determinism: set for a run, put back after it."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def sees_gpu() -> bool:
    """Whether PyTorch can run on a GPU here."""
    return torch.cuda.is_available()


def set_flags(device: torch.device) -> tuple[Any, ...]:
    """Switch TF32 and autotuning off, and on a GPU ask for deterministic kernels; returns what was set before."""
    before = (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    return before


def eagerly(wanted: bool = True) -> AbstractContextManager[Any]:
    """A model that its own code compiles is run as it was written while the block runs: what is compiled is not seen.

    Args:
        wanted: False leaves the compiler alone.
    """
    known = "torch._dynamo" in sys.modules  # which takes seconds to import, and whoever compiles has done so
    return torch.compiler.set_stance("force_eager") if wanted and known else nullcontext()


def restore_flags(before: tuple[Any, ...]) -> None:
    """Put back what `set_flags` returned."""
    tf32_matmul, tf32_cudnn, benchmark, deterministic, warn_only = before
    torch.backends.cuda.matmul.allow_tf32 = tf32_matmul
    torch.backends.cudnn.allow_tf32 = tf32_cudnn
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def flags() -> dict[str, Any]:
    """The switches as they are, for a result's environment."""
    return {
        "threads": torch.get_num_threads(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
