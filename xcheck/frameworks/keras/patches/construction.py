"""Where the user's code constructs layers, losses and optimizers of Keras."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from keras.src.layers import Layer
from keras.src.losses.loss import Loss
from keras.src.ops.operation import Operation
from keras.src.optimizers.base_optimizer import BaseOptimizer

from ....records.sites import LOSS, OPTIMIZER, Site
from ...construction import site_of


@contextmanager
def constructions(sites: dict[str, tuple[Site, ...]], seen: Callable[[Any], Any] = lambda _: None) -> Generator[None]:
    """Note where each object is constructed in the block.

    A layer that is made again from its config has the name of the first one, whose place is kept.

    Args:
        sites: receives them, by name of a layer, or by kind.
        seen: called with each object.
    """

    def add(key: str, thing: Any) -> None:
        seen(thing)
        site = site_of(thing)
        if site is not None and site not in sites.get(key, ()):
            sites[key] = (*sites.get(key, ()), site)

    of_operation: Any = Operation.__init__
    before = [(kind, kind.__init__) for kind in (Operation, Loss, BaseOptimizer)]

    def operation(self: Any, name: Any = None) -> None:  # Keras reads this signature
        of_operation(self, name=name)
        if isinstance(self, Layer):
            add(self.name, self)

    def other(key: str, original: Any) -> Any:
        @functools.wraps(original)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            add(key, self)

        return init

    try:
        Operation.__init__ = functools.wraps(of_operation)(operation)
        for kind, key in ((Loss, LOSS), (BaseOptimizer, OPTIMIZER)):
            setattr(kind, "__init__", other(key, kind.__init__))  # noqa: B010 - of a class that is typed otherwise
        yield
    finally:
        for kind, original in before:
            setattr(kind, "__init__", original)  # noqa: B010
