"""Values that are kept: each of them once, however often it is read, and on disk where memory would not hold them.

A check reads one value many times over: a step starts where the one before it ended, each twin goes back to that
start, a step that is made again leaves what it left before. So what is read is looked up among what is kept and still
in use, bit by bit, and is copied only if it is new. What is kept cannot be written to.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable
from functools import partial

import numpy as np

from ..errors import SetupError
from .trace import Array

LEAST = 1 << 16
"""Bytes from which a value is looked up; smaller ones are copied in less time."""

FILE = 1 << 28
"""Bytes that a file on disk has room for, where a single value does not take more."""

CHUNK = 1 << 18
"""Elements that are compared at once."""

SAMPLES = 16
"""Elements by which a value is looked up before it is compared."""

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
"""Of glibc alone."""

_Key = tuple[str, tuple[int, ...], bytes]


class Store:
    """What the sides of a run read of themselves.

    Attributes:
        on_disk: large values that come in from now on go to files without a name, which are gone with the last array
            that reads them.
    """

    def __init__(self) -> None:
        self.on_disk = False
        self._known: dict[_Key, list[weakref.ref[Array]]] = {}
        self._file: _File | None = None
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def keep(self, array: Array) -> Array:
        """An array of these values that nothing changes any more; the one that is kept already, if there is one.

        Args:
            array: may change later on.
        """
        if array.nbytes < LEAST or array.dtype.itemsize not in (1, 2, 4, 8):
            return np.array(array)
        key = _key(array)
        for found in [ref() for ref in self._known.get(key, ())]:
            if found is not None and same_bits(found, array):
                return found
        kept = self._written(array) if self.on_disk else np.array(array)
        kept.flags.writeable = False
        self._remember(key, kept)
        return kept

    def given(self, arrays: Iterable[Array]) -> list[Array]:
        """What of the arrays that a side is set to can stand for the copies that it will be read as, while it is held.

        That is what cannot be written to, and lies in memory as a copy of it would.

        Args:
            arrays: the side was set to.
        """
        lasting = [a for a in arrays if a.nbytes >= LEAST and not a.flags.writeable and a.flags.c_contiguous]
        for array in lasting:
            key = _key(array)
            if not any(ref() is array for ref in self._known.get(key, ())):
                self._remember(key, array)
        return lasting

    def rest(self) -> None:
        """Give back what memory is not needed now, where it is scarce.

        What was read of files is read again. A training step leaves cycles that hold its tensors until they are
        looked for, and the C library keeps what was freed unless it is told.
        """
        if self.on_disk:
            gc.collect()
            self._unmap()
            if _TRIM is not None:
                _TRIM(0)

    def _unmap(self) -> None:
        for mapped in self._maps if hasattr(mmap, "MADV_DONTNEED") else ():
            mapped.madvise(mmap.MADV_DONTNEED)

    def _remember(self, key: _Key, array: Array) -> None:
        self._known.setdefault(key, []).append(weakref.ref(array, partial(_forget, self._known, key)))

    def _written(self, array: Array) -> Array:
        if self._file is None or not self._file.has_room(array.nbytes):
            self._unmap()
            self._file = _File(max(FILE, array.nbytes))
            self._maps.add(self._file.map)
        return self._file.write(array)


class _File:
    """A file that is written once and read as if it were memory; it has no name, and goes when nothing reads it.

    Args:
        size: bytes that it has room for.
    """

    def __init__(self, size: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nothing more is written to it
        self._file.truncate(size)
        self.map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)
        self._size, self._used = size, 0

    def __del__(self) -> None:
        self._file.close()  # what is mapped stays for as long as an array reads it

    def has_room(self, size: int) -> bool:
        return self._used + size <= self._size

    def write(self, array: Array) -> Array:
        """The array as it is in the file now."""
        try:
            self._file.seek(self._used)
            self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()
        except OSError as error:
            raise SetupError(
                "There is no room on disk for what this check does not hold in memory.",
                where=tempfile.gettempdir(),
                numbers=f"{array.nbytes / 2**20:.0f} MiB more ({error.strerror})",
                todo="set TMPDIR to a folder with more room, or run with fewer parameters: a smaller config of the "
                "same model",
            ) from error
        found = np.frombuffer(self.map, array.dtype, array.size, self._used).reshape(array.shape)
        self._used += -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        return found


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits; NaN is NaN, and zero is not minus zero.

    Args:
        one, other: of elements of 1, 2, 4 or 8 bytes.
    """
    bits = f"u{one.dtype.itemsize}"
    left, right = one.view(bits), other.view(bits)
    if left.ndim == 0 or left.size == 0:
        return bool(np.array_equal(left, right))
    rows = max(1, CHUNK * len(left) // left.size)
    starts = range(0, len(left), rows)
    return all(np.array_equal(left[at : at + rows], right[at : at + rows]) for at in starts)


def _key(array: Array) -> _Key:
    places = np.linspace(0, array.size - 1, SAMPLES).astype(np.intp)
    return array.dtype.str, array.shape, np.asarray(array.flat[places]).tobytes()


def _forget(known: dict[_Key, list[weakref.ref[Array]]], key: _Key, gone: weakref.ref[Array]) -> None:
    """Runs when an array dies, and holds nothing of the store but its table."""
    left = [ref for ref in known.get(key, ()) if ref is not gone]
    if left:
        known[key] = left
    else:
        known.pop(key, None)
