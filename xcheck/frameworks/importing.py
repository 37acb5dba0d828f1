"""Import of TensorFlow without the early output of its C++ code."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from ..errors import not_installed
from ..pairs.pair import KerasSide, Pair


def import_quietly(pair: Pair) -> None:
    """Import TensorFlow, if the pair has a Keras side, and keep its first lines off the screen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if isinstance(pair.keras, KerasSide):  # Keras loads TensorFlow, where it is installed, under every backend
        with _stderr_aside():
            import_module("tensorflow")


def import_modules(names: Iterable[str]) -> None:
    """Import frameworks, before it is known which pair needs them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_aside():
        for name in names:
            import_module(name)


def import_module(name: str) -> None:
    """Import a framework by name; a missing one is left to the side that needs it to report."""
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if not_installed(error) is None:
            raise


@contextmanager
def _stderr_aside() -> Generator[None]:
    """Buffer output to file descriptor 2, also from C++ code, and show it only if the block fails."""
    sys.stderr.flush()
    stderr_copy = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(stderr_copy, 2)
            buffer.seek(0)
            sys.stderr.write(buffer.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)
