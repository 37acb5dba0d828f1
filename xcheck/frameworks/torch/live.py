"""What its patches and its exporter use of a running PyTorch side: a runner without its file, so that none needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ...pairs.pair import TorchSide
from ...records.store import Store


class LiveTorch(Protocol):
    """A built PyTorch model with its optimizer, its data layout and its float type; `TorchRunner` is one."""

    model: Any
    optimizer: Any
    memory: Any
    declared: TorchSide
    seed: int
    store: Store
    snapshot: Callable[[], Any]
    restore: Callable[[Any], None]
    _ready: Callable[..., Any]
    _call: Callable[..., Any]
    _infer: Callable[..., Any]
    _named_outputs: Callable[..., Any]
    _custom_step: Callable[..., Any]
    _standard_step: Callable[..., Any]
    _scope: Any
