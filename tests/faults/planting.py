"""What a fault is, and the usual ways to plant one: another setting, a part more, a part less."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hosts import HOSTS
from parts import Part, Setup

Side = str


@dataclass(frozen=True)
class Planted:
    """One fault in one host.

    Attributes:
        healthy: the side that is left alone.
        faulty: the other one.
        place: the name of the part where the difference is made; "" where it is made in no part.
        fault, host, side: of which, in which, and on which side.
        functional: how the Keras model is written.
    """

    healthy: Setup
    faulty: Setup
    place: str
    fault: Fault
    host: str
    side: Side = "keras"
    functional: bool = True

    @property
    def name(self) -> str:
        """In tables and for `--only`."""
        return f"{self.fault.id}@{self.host}"

    def pair(self) -> Any:
        """As `xcheck.check` takes it."""
        from training import pair_of

        sides = (self.faulty, self.healthy) if self.side == "torch" else (self.healthy, self.faulty)
        return pair_of(*sides, functional=self.functional)

    def partner(self) -> Any:
        """The same pair without the fault."""
        from training import pair_of

        return pair_of(self.healthy, self.healthy, functional=self.functional)


Change = tuple[Setup, Setup, str]
"""(the healthy side, the faulty one, the place)."""

Plant = Callable[[Setup, Random], Iterator[Change]]
"""Every way in which a host can have the fault."""


@dataclass(frozen=True)
class Fault:
    """A mistake that ports have.

    Attributes:
        id: of this catalogue. family: of the table.
        phase: the first that differs. causes: ids of `docs/causes.md` that are right.
        plant: how. sides: that can have it. step: the first that differs.
    """

    id: str
    family: str
    phase: str
    causes: tuple[str, ...]
    plant: Plant
    sides: tuple[Side, ...] = ("torch", "keras")
    step: int = 1


def setting(kinds: str, only: Callable[[Part], bool] = lambda part: True, **changes: Any) -> Plant:
    """Another setting of a part of these kinds; a value may be a function of (part, rng)."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        for part in host.of_kind(*kinds.split()):
            if only(part):
                new = {key: value(part, rng) if callable(value) else value for key, value in changes.items()}
                yield host, host.with_part(part.but(**new)), part.name

    return plant


def other_kind(kinds: str, kind: str, only: Callable[[Part], bool] = lambda part: True, **settings: Any) -> Plant:
    """A part of one kind, written as one of another kind."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        for part in host.of_kind(*kinds.split()):
            if only(part):
                new = {key: value(part, rng) if callable(value) else value for key, value in settings.items()}
                yield host, host.with_part(replace(part, kind=kind, settings={**part.settings, **new})), part.name

    return plant


def behind(kinds: str, kind: str, only: Callable[[Part], bool] = lambda part: True, **settings: Any) -> Plant:
    """One operation more, behind a part of these kinds."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        for part in host.of_kind(*kinds.split()):
            if only(part) and part is not host.parts[-1]:
                new = {key: value(part, rng) if callable(value) else value for key, value in settings.items()}
                extra = Part(f"{part.name}_more", kind, (part.name,), new)
                yield host, host.behind(part.name, extra), f"{extra.name} {part.name}"

    return plant


def without(kinds: str, only: Callable[[Part], bool] = lambda part: True) -> Plant:
    """A part less: what reads it reads what went into it."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        for part in host.of_kind(*kinds.split()):
            if only(part):
                yield host, host.without(part.name), part.name

    return plant


def fed(kinds: str, at: int, names: Sequence[str]) -> Plant:
    """Another value goes into a part: the first of these names that the host has before it."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        order = [part.name for part in host.parts]
        for part in host.of_kind(*kinds.split()):
            for name in names:
                if name in order[: order.index(part.name)] and name not in part.inputs and at < len(part.inputs):
                    inputs = (*part.inputs[:at], name, *part.inputs[at + 1 :])
                    yield host, host.with_part(replace(part, inputs=inputs)), part.name
                    break

    return plant


def loss(kinds: str = "", base: Any = None, **changes: Any) -> Plant:
    """Another setting of the loss; `base` is one that both sides have."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        if kinds and host.loss["kind"] not in kinds.split():
            return
        new = {key: value(host, rng) if callable(value) else value for key, value in (base or {}).items()}
        both = replace(host, loss={**host.loss, **new})
        wrong = {key: value(both, rng) if callable(value) else value for key, value in changes.items()}
        kept = {**both.loss, **wrong}
        yield both, replace(both, loss={key: value for key, value in kept.items() if value is not None}), ""

    return plant


def optimizer(base: Any = None, step: Any = None, wrong_step: Any = None, **changes: Any) -> Plant:
    """Another setting of the optimizer or the step; `base` replaces that of both sides, as `step` does."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        both = replace(host, optimizer=base or host.optimizer, step=step or host.step)
        kept = {**both.optimizer, **changes}
        wrong = replace(
            both,
            optimizer={key: value for key, value in kept.items() if value is not None},
            step={**both.step, **(wrong_step or {})},
        )
        yield both, wrong, ""

    return plant


def planted(faults: Sequence[Fault], seed: int, hosts: Sequence[str] = ()) -> list[Planted]:
    """Every fault in every host that can have it: where, on which side and with which numbers is drawn.

    Args:
        faults: to plant.
        seed: of the selection.
        hosts: only these.
    """
    made: list[Planted] = []
    for fault in faults:
        for name, host in HOSTS.items():
            if hosts and name not in hosts:
                continue
            rng = Random(f"{seed} {fault.id} {name}")
            ways = list(fault.plant(host(rng), rng))
            if ways:
                both, wrong, place = rng.choice(ways)
                side = rng.choice(fault.sides)
                made.append(Planted(both, wrong, place, fault, name, side, rng.random() < 0.5))
    return made
