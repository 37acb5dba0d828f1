"""Storage of arrays: each value once, however often it is read, and on disk where memory is too small.

A check reads one value many times: a step starts where the previous one ended, each twin returns to that start, a
repeated step leaves the same values. So each array read is looked up, bit by bit, among the stored arrays still in
use, and is copied only if it is new. Stored arrays are read-only.
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
"""Size of a file on disk in bytes, unless a single value needs more."""

CHUNK = 1 << 18
"""Elements compared at once."""

SAMPLES = 16
"""Elements in the lookup key of a value."""

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
"""Only glibc has it."""

_Key = tuple[str, tuple[int, ...], bytes]


class Store:
    """The arrays that the sides of a run have read from themselves.

    Attributes:
        on_disk: from now on, large values go to unnamed files, which disappear with the last array that reads them.
    """

    def __init__(self) -> None:
        self.on_disk = False
        self._known: dict[_Key, list[weakref.ref[Array]]] = {}
        self._file: _File | None = None
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def keep(self, array: Array) -> Array:
        """A read-only array of these values; the stored one if it exists.

        Args:
            array: may change later.
        """
        if array.nbytes < LEAST or array.dtype.itemsize not in (1, 2, 4, 8):
            return np.array(array)
        key = _key(array)
        for stored in [ref() for ref in self._known.get(key, ())]:
            if stored is not None and same_bits(stored, array):
                return stored
        copy = self._written(array) if self.on_disk else np.array(array)
        copy.flags.writeable = False
        self._remember(key, copy)
        return copy

    def adopt(self, arrays: Iterable[Array]) -> list[Array]:
        """The arrays that can replace later copies of the same values, for as long as the caller holds them.

        These are the arrays that are read-only and contiguous.

        Args:
            arrays: values that a side was set to.
        """
        adopted = [a for a in arrays if a.nbytes >= LEAST and not a.flags.writeable and a.flags.c_contiguous]
        for array in adopted:
            key = _key(array)
            if not any(ref() is array for ref in self._known.get(key, ())):
                self._remember(key, array)
        return adopted

    def release(self) -> None:
        """Return unused memory to the system where memory is scarce.

        Pages read from files are dropped and can be read again. A training step leaves reference cycles that hold its
        tensors until they are collected, and the C library keeps freed memory unless it is asked to return it.
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
    """An unnamed file, written once and memory-mapped for reading; it disappears when nothing reads it.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nothing more is written to it
        self._file.truncate(size)
        self.map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)
        self._size, self._used = size, 0

    def __del__(self) -> None:
        self._file.close()  # the mapping stays as long as an array reads it

    def has_room(self, size: int) -> bool:
        return self._used + size <= self._size

    def write(self, array: Array) -> Array:
        """Write the array; returns it as mapped from the file."""
        try:
            self._file.seek(self._used)
            self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()
        except OSError as error:
            raise SetupError(
                "The disk has no room for the temporary files of this check.",
                where=tempfile.gettempdir(),
                numbers=f"{array.nbytes / 2**20:.0f} MiB more ({error.strerror})",
                todo="set TMPDIR to a folder with more room, or check a smaller config of the same model",
            ) from error
        mapped = np.frombuffer(self.map, array.dtype, array.size, self._used).reshape(array.shape)
        self._used += -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        return mapped


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays of one shape and dtype have the same bits; NaN equals NaN, and zero differs from minus zero.

    Args:
        one, other: arrays with elements of 1, 2, 4 or 8 bytes.
    """
    bits = f"u{one.dtype.itemsize}"
    left, right = one.view(bits), other.view(bits)
    if left.ndim == 0 or left.size == 0:
        return bool(np.array_equal(left, right))
    rows = max(1, CHUNK * len(left) // left.size)
    starts = range(0, len(left), rows)
    return all(np.array_equal(left[start : start + rows], right[start : start + rows]) for start in starts)


def _key(array: Array) -> _Key:
    places = np.linspace(0, array.size - 1, SAMPLES).astype(np.intp)
    return array.dtype.str, array.shape, np.asarray(array.flat[places]).tobytes()


def _forget(known: dict[_Key, list[weakref.ref[Array]]], key: _Key, freed: weakref.ref[Array]) -> None:
    """Runs when an array is freed; refers only to the table of the store, not to the store."""
    remaining = [ref for ref in known.get(key, ()) if ref is not freed]
    if remaining:
        known[key] = remaining
    else:
        known.pop(key, None)
