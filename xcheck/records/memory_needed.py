"""Memory that a check needs and the machine has: estimated before training, and reported in one line."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np

from ..errors import OutOfMemory, SetupError
from .inventory import Inventory

IN_MEMORY = 36
"""Most copies of all parameters that a check holds when everything stays in memory: 20 with plain SGD, measured by
scripts/bench_memory.py, and 8 more for each of the two slots of Adam, which are counted and not measured."""

ON_DISK = 10
"""Copies with Adam when stored values are on disk, measured the same way in a float64 step; 5 with plain SGD."""

LIVE = 5
"""Copies that every check needs: both models, their gradients, and the optimizer slots of one of them."""

_GIB = 2.0**30
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def needs_disk(side: str, inventory: Inventory) -> str | None:
    """A note if the values that a check stores do not fit in memory; None if they do.

    Args:
        side: the side that is built.
        inventory: of that side, in the precision of the run.

    Raises:
        SetupError: not even the values that cannot be on disk fit in memory.
    """
    size = sum(entry.size * _bytes(entry.dtype) for entry in inventory.canonical())
    has, free = total(), available()
    if free is None or size * IN_MEMORY <= free:
        return None
    count = sum(entry.size for entry in inventory.canonical()) / 1e6
    sizes = f"{count:.0f} M parameters on the {side} side, {size / _GIB:.1f} GiB a copy"
    if has is not None and size * LIVE > has:
        raise SetupError(
            "This machine does not have enough memory for this check.",
            numbers=f"{sizes}: it needs {size * LIVE / _GIB:.0f} GiB at least, and there are {has / _GIB:.0f} GiB",
            cause="both models are trained in float64 at the same time",
            todo="check a smaller config of the same model, with fewer or narrower layers",
        )
    warning = ""
    if size * ON_DISK > free:
        warning = "; that may be too much, and --free-steps 0, --precision float64 and plain SGD take less"
    return (
        f"{sizes}: the check could take {size * IN_MEMORY / _GIB:.0f} GiB, and {free / _GIB:.0f} GiB are free, so what "
        f"it keeps goes to temporary files, and it takes {size * ON_DISK / _GIB:.0f} GiB at most{warning}"
    )


def _bytes(dtype: str) -> int:
    try:
        return np.dtype(dtype).itemsize
    except TypeError:  # a dtype that NumPy lacks, such as bfloat16
        return 2


def total() -> int | None:
    """Bytes of memory of the machine, or allowed for this process; None if unknown."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _number(_CGROUP / "memory.max")
    return installed if limit is None else min(installed, limit)


def available() -> int | None:
    """Bytes of memory that are free or can be freed at once; None if unknown."""
    if not _MEMINFO.is_file():
        return total()
    meminfo = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    free = int(meminfo["MemAvailable"].split()[0]) * 1024
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is None or used is None:
        return free
    stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    return min(free, limit - used + int(stat["inactive_file"]))


def _number(path: Path) -> int | None:
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None


# Where memory ran out --------------------------------------------------------------------------------------------

_KINDS = ("OutOfMemoryError", "ResourceExhaustedError")
"""Exception classes of PyTorch and TensorFlow; a plain RuntimeError is recognized by `_WORDS`."""

_WORDS = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|resource_exhausted|bad_alloc", re.I)


def shortage(error: BaseException, doing: str | None = None) -> OutOfMemory | None:
    """The error to raise for an out-of-memory exception of any library; None for any other exception.

    Args:
        error: the exception.
        doing: the operation that raised it.
    """
    kinds = [kind.__name__ for kind in type(error).__mro__]
    by_words = any(k in ("RuntimeError", "OpError") for k in kinds) and _WORDS.search(str(error))
    if not (isinstance(error, MemoryError) or any(k in kinds for k in _KINDS) or by_words):
        return None
    message = next((line.strip() for line in str(error).splitlines() if re.search(r"\d", line)), str(error).strip())
    has, free, peak = total(), available(), _peak()
    numbers = [f"this process had {peak / _GIB:.1f} GiB at most" if peak else ""]
    numbers += [f"{free / _GIB:.1f} of {has / _GIB:.1f} GiB are free now" if has and free is not None else ""]
    return OutOfMemory(
        "This machine does not have enough memory; there is no verdict.",
        where=doing,
        numbers="\n".join(filter(None, [message, ", ".join(filter(None, numbers))])),
        cause="both models are trained in float64, and several copies of all parameters are kept",
        todo="check a smaller config of the same model, or smaller batches; --precision float64 and --free-steps 0 "
        "take less",
    )


def _peak() -> int | None:
    """Peak memory of this process in bytes; None if unknown."""
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
