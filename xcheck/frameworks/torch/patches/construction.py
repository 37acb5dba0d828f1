"""Where the user's code constructs modules and optimizers of PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.loss import _Loss  # pyright: ignore[reportPrivateUsage]

from ....records.sites import LOSS, OPTIMIZER, Site
from ...construction import site_of

Constructed = dict[int, tuple[str, Site | None]]
"""id of an object -> `LOSS`, `OPTIMIZER` or "", and where it is constructed; an id that is used again is replaced."""


@contextmanager
def constructions(constructed: Constructed) -> Generator[None]:
    """Note each object that is constructed in the block.

    Args:
        constructed: receives them.
    """
    kinds: tuple[Any, ...] = (torch.nn.Module, torch.optim.Optimizer)
    before = [(kind, kind.__init__) for kind in kinds]

    def noting(original: Any) -> Any:
        @functools.wraps(original)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            key = OPTIMIZER if isinstance(self, torch.optim.Optimizer) else LOSS if isinstance(self, _Loss) else ""
            constructed[id(self)] = key, site_of(self)

        return init

    try:
        for kind, original in before:
            kind.__init__ = noting(original)
        yield
    finally:
        for kind, original in before:
            kind.__init__ = original


def by_path(constructed: Constructed, model: torch.nn.Module) -> dict[str, tuple[Site, ...]]:
    """The sites by path of a module, and those of losses and optimizers.

    Args:
        constructed: while the side was built and ran.
        model: of the side.
    """
    found: dict[str, tuple[Site, ...]] = {}
    for path, module in model.named_modules():
        _, site = constructed.get(id(module), ("", None))
        if site is not None:
            found[path] = (site,)
    for key, site in constructed.values():
        if key and site is not None and site not in found.get(key, ()):
            found[key] = (*found.get(key, ()), site)
    return found
