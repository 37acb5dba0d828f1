"""All that can be reached from something is put back, wherever it is kept, and what two runs left unlike is named."""

from __future__ import annotations

import functools
import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xcheck.frameworks.reachable import Saved, functions
from xcheck.frameworks.torch.reachable import TorchTensors
from xcheck.records.store import Store

COUNT = 0


def saved(**roots: Any) -> Saved:
    return Saved(roots, TorchTensors(), Store())


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Counter:
    made = 0

    def __init__(self) -> None:
        self.n = 0
        self.inner = {"list": [1], "queue": deque([1]), "set": {1}, "ordered": OrderedDict(a=1)}


def count_in_a_global() -> None:
    global COUNT
    COUNT += 1


def test_containers_and_attributes_get_their_contents_again_and_stay_the_same_objects() -> None:
    thing = Counter()
    inner = dict(thing.inner)
    before = saved(thing=thing)
    thing.n += 1
    thing.late = "made in the step"  # pyright: ignore
    thing.inner["list"].append(2)  # pyright: ignore
    thing.inner["queue"].rotate()  # pyright: ignore
    thing.inner["set"].add(2)  # pyright: ignore
    thing.inner["ordered"]["b"] = 2  # pyright: ignore
    thing.inner["new"] = []  # pyright: ignore
    Counter.made += 1
    before.restore()
    assert vars(thing).keys() == {"n", "inner"}
    assert thing.n == 0
    assert Counter.made == 0
    assert thing.inner == {"list": [1], "queue": deque([1]), "set": {1}, "ordered": OrderedDict(a=1)}
    assert all(thing.inner[key] is value for key, value in inner.items())


def closure() -> tuple[Any, Callable[[], Any]]:
    n = 0

    def step() -> None:
        nonlocal n
        n += 1

    return step, lambda: step.__closure__[0].cell_contents  # pyright: ignore


def default() -> tuple[Any, Callable[[], Any]]:
    def step(kept: list[int] = []) -> None:  # noqa: B006 - as users do it
        kept.append(1)

    return step, lambda: len(step.__defaults__[0])  # pyright: ignore


def attribute() -> tuple[Any, Callable[[], Any]]:
    def step() -> None:
        step.n = getattr(step, "n", 0) + 1  # pyright: ignore

    return step, lambda: getattr(step, "n", 0)


def partial() -> tuple[Any, Callable[[], Any]]:
    kept = Slotted()

    def add(to: Slotted) -> None:
        to.n += 1

    return functools.partial(add, kept), lambda: kept.n


def of_a_global() -> tuple[Any, Callable[[], Any]]:
    return count_in_a_global, lambda: COUNT


def generator() -> tuple[Any, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    return (lambda: rng.random()), lambda: rng.bit_generator.state["state"]["state"]


def own_random() -> tuple[Any, Callable[[], Any]]:
    rng = random.Random(0)
    return (lambda: rng.random()), rng.getstate


def array() -> tuple[Any, Callable[[], Any]]:
    kept = np.zeros(3)

    def step() -> None:
        kept[:] += 1

    return step, lambda: float(kept.sum())


def queue() -> tuple[Any, Callable[[], Any]]:
    kept = torch.nn.Module()
    kept.bank = torch.zeros(3)

    def step() -> None:
        kept.bank = torch.cat([kept.bank[1:], torch.ones(1)])

    return step, lambda: float(kept.bank.sum())


def module() -> tuple[Any, Callable[[], Any]]:
    teacher = torch.nn.Linear(2, 2)

    def step() -> None:
        with torch.no_grad():
            teacher.weight.mul_(0.9)

    return step, lambda: teacher.weight.detach().numpy().tobytes()


def schedule() -> tuple[Any, Callable[[], Any]]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def step() -> None:
        optimizer.step()
        scheduler.step()

    return step, lambda: (optimizer.param_groups[0]["lr"], scheduler.last_epoch)


KEEPERS = [closure, default, attribute, partial, of_a_global, generator, own_random, array, queue, module, schedule]


@pytest.mark.parametrize("keeper", KEEPERS, ids=lambda k: k.__name__)
def test_a_step_keeps_the_same_again_once_it_was_put_back(keeper: Callable[[], tuple[Any, Callable[[], Any]]]) -> None:
    step, kept = keeper()
    start = kept()
    before = saved(step=step)
    step()
    once = kept()
    assert once != start
    before.restore()
    assert kept() == start
    step()
    assert kept() == once


def test_gradients_and_shapes_of_tensors_are_put_back() -> None:
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    gradient = model.weight.grad
    before = saved(model=model)
    model.weight.grad = None
    model.weight.requires_grad_(False)
    model.weight.data = torch.zeros(3, 3)
    before.restore()
    assert model.weight.grad is gradient
    assert model.weight.requires_grad
    assert model.weight.shape == (1, 2)


def test_what_two_runs_left_unlike_is_named_by_the_way_to_it() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = saved(model=model, optimizer=optimizer)
    optimizer.param_groups[0]["lr"] = 0.05
    assert first.moved(saved(model=model, optimizer=optimizer)) == ["optimizer.param_groups[0]['lr']"]
    with torch.no_grad():
        model.weight.add_(1)
    assert first.moved(saved(model=model, optimizer=optimizer)) == ["optimizer.param_groups[0]['lr']", "model.weight"]


def test_nothing_is_named_where_nothing_or_a_time_alone_differs() -> None:
    thing = Counter()
    first = saved(thing=thing)
    assert first.moved(saved(thing=thing)) == []
    thing.n += 1  # no value and no setting follows from it
    assert first.moved(saved(thing=thing)) == []


def test_what_cannot_be_set_back_is_named_first() -> None:
    bank, numbers = np.zeros(2), itertools.count()

    def step() -> None:
        bank[0] = next(numbers)

    step()
    first = saved(step=step)
    step()
    named = first.moved(saved(step=step))
    assert named[0] == "step (closure numbers) (count, which cannot be set back)"
    assert "step (closure bank)" in named


def test_functions_of_a_side_are_those_that_it_has() -> None:
    class Side:
        step, loss, build = len, None, print

    assert functions(Side()) == {"step": len}


def test_what_is_made_on_an_object_that_held_nothing_is_gone_again() -> None:
    class Step:
        pass

    step = Step()
    before = saved(step=step)
    step.teacher = torch.nn.Linear(1, 1)  # pyright: ignore
    before.restore()
    assert vars(step) == {}
