"""Learning rates that PyTorch's schedulers will set, by a dry run of a copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from ...records.inventory import UPDATE_COUNTS

FURTHEST = 20_000
"""Steps of a dry run; each takes some 20 microseconds."""


def scheduler_of(optimizer: torch.optim.Optimizer, reached: Iterable[Any], updates: int) -> LRScheduler | None:
    """The scheduler that user code steps once after each update; None where there is not exactly one.

    Args:
        optimizer: of the side.
        reached: objects that its steps can reach.
        updates: how many it has made, to see how often the scheduler is stepped; at least one.
    """
    own = [s for s in reached if isinstance(s, LRScheduler) and getattr(s, "optimizer", None) is optimizer]
    inner = {id(each) for scheduler in own for each in getattr(scheduler, "_schedulers", ())}
    outer = [scheduler for scheduler in own if id(scheduler) not in inner]
    known = len(outer) == 1 and type(outer[0]).__module__ == LRScheduler.__module__
    return outer[0] if known and outer[0].last_epoch == updates else None


def scheduler_rates(scheduler: LRScheduler, optimizer: torch.optim.Optimizer, updates: int) -> dict[int, float]:
    """The learning rate after each number of updates in `UPDATE_COUNTS`, from the current one to where it ends.

    Args:
        scheduler: stepped once after each update.
        optimizer: of it; neither is changed.
        updates: how many it has made.

    Returns:
        By number of updates; empty where parameter groups have different rates.
    """
    holders = [torch.nn.Parameter(torch.zeros(1)) for _ in optimizer.param_groups]
    stand_in = torch.optim.SGD(holders, lr=0.0)
    groups = zip(optimizer.param_groups, holders, strict=True)
    stand_in.param_groups[:] = [{**group, "params": [holder]} for group, holder in groups]
    dry = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    wanted, rates = {n for n in UPDATE_COUNTS if n >= updates}, dict[int, float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for taken in range(updates, FURTHEST + 1):
            found = {float(group["lr"]) for group in stand_in.param_groups}
            if len(found) != 1:
                return {}
            if taken in wanted:
                rates[taken] = found.pop()
            try:
                dry.step()
            except ValueError:  # such as that of OneCycleLR after its last step
                break
    return rates
