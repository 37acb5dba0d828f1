"""What its patches and its exporter use of a running Keras side: a runner without its file, so that none needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ...records.store import Store


class LiveKeras(Protocol):
    """A built Keras model, its data layout and its float type; `KerasRunner` is one."""

    model: Any
    seed: int
    store: Store
    projected: bool
    _ready: Callable[..., Any]
    _call: Callable[..., Any]
    _infer: Callable[..., Any]
    _named_outputs: Callable[..., Any]
    _picked: Callable[..., Any]
    _total: Callable[..., Any]
    _scope: Any
    _handed_over: Any
