"""The machine, the versions and the date that a table of measurements is of."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "keras", "tensorflow", "jax", "ray")


def machine() -> dict[str, Any]:
    """What a number depends on: cores, memory, threads, versions, date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _of("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(int((_of("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "threads": {k: os.environ[k] for k in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS") if k in os.environ},
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def _of(path: str, key: str) -> str | None:
    lines = Path(path).read_text().splitlines() if Path(path).is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
