"""Automatic names of Keras layers, counted anew for each model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from keras.src.backend.common import global_state

_NAME_COUNTERS = "object_name_uids"


@contextmanager
def naming(counters: dict[str, int]) -> Generator[None]:
    """Automatic layer names count up over the whole process; a count of its own gives a model the same paths on
    every build."""
    before = global_state.get_global_attribute(_NAME_COUNTERS)
    global_state.set_global_attribute(_NAME_COUNTERS, counters)
    try:
        yield
    finally:
        global_state.set_global_attribute(_NAME_COUNTERS, before)
