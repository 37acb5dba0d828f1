"""The optimizers of a PyTorch side: what its function returned, and those that they or the model hold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from ...errors import PairError
from ...pairs.pair import TorchSide
from ...pairs.user_code import calling, got
from ..user_arguments import asked

LEVELS = 3
"""How deep containers and objects are looked into."""


def optimizers_in(returned: Any, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Every optimizer, once: those that were returned first, in their order.

    Args:
        returned: an optimizer, or a dict, tuple or list of them; None for none.
        model: of the side, whose attributes may hold more.
    """
    found: dict[int, torch.optim.Optimizer] = {}
    for thing in (returned, *(vars(module) for module in model.modules())):
        for optimizer in _within(thing, LEVELS):
            found.setdefault(id(optimizer), optimizer)
    return list(found.values())


def returned_optimizers(returned: Any) -> list[torch.optim.Optimizer]:
    """What a function for the optimizer returned, as a list: one, those of a dict, tuple or list, or none."""
    if isinstance(returned, Mapping):
        return list(returned.values())  # pyright: ignore
    if isinstance(returned, tuple | list):
        return list(returned)  # pyright: ignore
    return [] if returned is None else [returned]


def more_of(model: torch.nn.Module) -> dict[str, Any]:
    """What `optimizer` and `step` may ask for by name."""
    return {"model": model, "named_parameters": list(model.named_parameters())}


def build_optimizer(declared: TorchSide, model: torch.nn.Module) -> Any:
    """What the function for the optimizer returns; SGD where there is none; None where nothing trains.

    Raises:
        PairError: it returned something else than optimizers.
        UserCodeError: it raised.
    """
    parameters = [p for p in model.parameters() if not is_lazy(p)]
    if not any(p.requires_grad for p in parameters):
        return None
    if declared.optimizer is None:
        optimizer: Any = torch.optim.SGD(parameters, lr=0.01)
    else:
        with calling("torch optimizer"), warnings.catch_warnings():
            # What is listed twice is reported as a difference, with its path.
            warnings.filterwarnings("ignore", message="optimizer contains a parameter group with duplicate")
            optimizer = asked(declared.optimizer, [parameters], more_of(model))
    if not all_optimizers(optimizer):
        raise PairError("TorchSide.optimizer did not return a torch.optim.Optimizer.", **got(optimizer))
    return optimizer


def all_optimizers(returned: Any) -> bool:
    """Whether a function for the optimizer returned one, or a dict, tuple or list of nothing else."""
    every = returned_optimizers(returned)
    return bool(every) and all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in every)


def _within(thing: Any, levels: int) -> Iterator[torch.optim.Optimizer]:
    if isinstance(thing, torch.optim.Optimizer):
        yield thing
        thing = {name: value for name, value in vars(thing).items() if name not in ("state", "param_groups")}
    if not levels:
        return
    if isinstance(thing, Mapping):
        thing = tuple(thing.values())  # pyright: ignore
    if isinstance(thing, tuple | list):
        for item in thing:  # pyright: ignore
            yield from _within(item, levels - 1)
