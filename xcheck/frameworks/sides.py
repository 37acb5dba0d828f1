"""The only module with the concrete sides: chooses runner, device and backend."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import PairError, SetupError, not_installed
from ..pairs.batches import batches_of
from ..pairs.pair import Batch, KerasSide, Pair, TorchSide
from ..records.memory_needed import needs_disk
from ..records.sides import SideName
from ..records.sites import Sites
from ..records.store import Store
from ..records.tested_versions import untested
from .canary import Outcome
from .checkpoints import Checkpoints
from .fake.runner import NumpyRunner, NumpySide
from .protocol import Runner

_ONE_THREAD = threading.RLock()
"""Settings of a run, such as the float type of Keras, apply to the whole process, so a run in a different thread
waits."""

BACKENDS = ("tensorflow", "jax", "torch")
Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Show no progress."""


class RunLog(Protocol):
    """Pair, environment and notes of a run; implemented by `phases.findings.Findings`."""

    pair: Pair
    seed: int
    environment: dict[str, Any]
    notes: list[str]
    sites: dict[SideName, Sites]

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Add the seconds of the block to a stage."""
        ...


@dataclass(frozen=True)
class Sides:
    """Builds the sides of a pair, and describes each in the findings.

    Attributes:
        findings: of the run.
        device: "cpu" or "cuda".
        progress: receives a text about the current activity.
        store: keeps arrays read from all sides.
    """

    findings: RunLog
    device: str
    progress: Progress
    store: Store = field(default_factory=Store)

    @contextmanager
    def open(self, side: SideName, precision: str = "float64") -> Generator[Runner]:
        """Build one side with all its variables; closed when the block ends. Other threads wait until then."""
        with _ONE_THREAD, ExitStack() as stack:
            self.progress(f"building the {side} side in {precision}")
            findings = self.findings
            self.store.release()  # memory of the previous sides
            constructed = stack.enter_context(_constructions(getattr(findings.pair, side)))
            with findings.timed("sides"):
                runner = _runner(findings.pair, side, precision, self.device, findings.seed, self.store)
            try:
                with findings.timed("sides"):
                    _prime(runner, next(batches_of(findings.pair, findings.seed, 1)))
                    self._make_room(runner)
                findings.environment = {
                    "python": platform.python_version(),
                    "numpy": np.__version__,
                    "platform": f"{platform.system()} {platform.machine()}",
                    "cpus": os.cpu_count(),
                    "device": self.device,
                    **findings.environment,
                    side: dict(runner.environment()),
                }
                findings.notes += untested({**findings.environment, **findings.environment[side]})
                yield runner
            finally:
                findings.sites.setdefault(side, constructed(runner))
                findings.notes += runner.notes()
                runner.close()

    def _make_room(self, runner: Runner) -> None:
        note = None if self.store.on_disk else needs_disk(runner.side, runner.inventory())
        if note is not None:
            self.store.on_disk = True
            self.findings.notes.append(note)
            self.progress(note)


@contextmanager
def _constructions(declared: Any) -> Generator[Callable[[Any], Sites]]:
    """A function that gives where the objects are constructed that the block constructs for a runner."""
    _require(declared)
    if isinstance(declared, TorchSide):
        from .torch.patches.construction import by_path
        from .torch.patches.construction import constructions as of_torch

        by_id: Any = {}
        with of_torch(by_id):
            yield lambda runner: by_path(by_id, runner.model)
    elif isinstance(declared, KerasSide):
        from .keras.patches.construction import constructions as of_keras

        by_name: dict[str, tuple[Any, ...]] = {}
        with of_keras(by_name):
            yield lambda _: by_name
    else:
        yield lambda _: {}


def _runner(pair: Pair, side: SideName, precision: str, device: str, seed: int, store: Store | None = None) -> Runner:
    declared = getattr(pair, side)
    _require(declared)
    if isinstance(declared, TorchSide):
        from .torch.runner import TorchRunner

        return TorchRunner(declared, precision=precision, device=device, seed=seed, store=store)
    if isinstance(declared, KerasSide):
        from .keras.patches.training_step import makes_own_loss
        from .keras.runner import KerasRunner

        runner = KerasRunner(declared, precision=precision, device=device, seed=seed, store=store)
        if runner.projected and isinstance(pair.torch, TorchSide) and (pair.torch.loss or pair.torch.step):
            if not makes_own_loss(runner.model):
                raise PairError(
                    "Only the torch side has a loss.",
                    where=f"Pair({pair.name!r})",
                    cause="KerasSide has no loss, and its model neither is compiled with one nor adds one",
                    todo="give KerasSide a loss, or leave the loss out on both sides",
                )
            runner.projected = False
        return runner
    if isinstance(declared, NumpySide):
        return NumpyRunner(declared, precision=precision, device=device, seed=seed)
    raise PairError(
        f"Pair.{side} must be an xcheck.{'TorchSide' if side == 'torch' else 'KerasSide'}.",
        numbers=f"got {type(declared).__name__}",
        todo=f"pass xcheck.{'TorchSide' if side == 'torch' else 'KerasSide'}(...)",
    )


def _prime(runner: Runner, batch: Batch) -> None:
    prime: Callable[[Batch], None] | None = getattr(runner, "prime", None)
    if prime is not None:
        prime(batch)


def checkpoints_of(runner: Runner) -> Checkpoints:
    """The files of weights of a side."""
    if runner.side == "torch":
        from .torch.checkpoints import TorchCheckpoints

        return TorchCheckpoints(runner)
    from .keras.checkpoints import KerasCheckpoints

    return KerasCheckpoints(runner)


def choose_backend(pair: Pair, wanted: str | None) -> None:
    """Let Keras start on a backend.

    Raises:
        SetupError: Keras already runs on a different one.
    """
    if not isinstance(pair.keras, KerasSide) or wanted is None:
        return
    if wanted not in BACKENDS:
        raise PairError("Unknown Keras backend.", numbers=f"got {wanted!r}; backends: {', '.join(BACKENDS)}")
    keras = sys.modules.get("keras")
    if keras is None:
        os.environ["KERAS_BACKEND"] = wanted
        return
    active = keras.config.backend()
    if active != wanted:
        raise SetupError(
            "Keras already runs on a different backend.",
            numbers=f"wanted {wanted}, active {active}",
            cause="something imported keras before xcheck could choose; the backend is fixed at the first import",
            todo=f"set KERAS_BACKEND={wanted} in the environment",
        )


def choose_device(pair: Pair, device: Device, *sides: SideName) -> str:
    """The requested device; "auto" is a GPU if every side that runs sees one."""
    if device != "auto":
        return device
    return "cuda" if all(_sees_gpu(getattr(pair, side)) for side in sides or ("torch", "keras")) else "cpu"


def canaries(pair: Pair, *sides: SideName) -> tuple[Outcome, ...]:
    """The canary outcomes for a pair's frameworks; each canary runs once per process.

    Args:
        pair: with the sides.
        sides: only these; all if none is named.

    Raises:
        SetupError: a framework is not installed.
    """
    with _ONE_THREAD:
        return tuple(o for side in sides or ("torch", "keras") for o in _tried(type(getattr(pair, side))))


@cache
def _tried(kind: type) -> tuple[Outcome, ...]:
    if issubclass(kind, TorchSide):
        _import("torch")
        from .torch.canaries import canaries as of_torch

        return of_torch()
    if issubclass(kind, KerasSide):
        _import("keras")
        from .keras.canaries import canaries as of_keras

        return of_keras()
    return ()


def _require(declared: Any) -> None:
    """Import the framework of a side.

    Raises:
        SetupError: it is not installed, or cannot be imported.
    """
    for kind, name in ((TorchSide, "torch"), (KerasSide, "keras")):
        if isinstance(declared, kind):
            _import(name)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: for a missing shared library
        missing = not_installed(error)
        if missing is None:
            missing = SetupError(
                f"{name} is installed here but cannot be imported.",
                cause=f"{type(error).__name__}: {error}",
                todo=f"make this work first: {sys.executable} -c 'import {name}'",
            )
        raise missing from error


def _sees_gpu(declared: Any) -> bool:
    _require(declared)
    if isinstance(declared, TorchSide):
        from .torch import flags as torch_flags

        return torch_flags.sees_gpu()
    if isinstance(declared, KerasSide):
        from .keras import backends

        return backends.sees_gpu()
    return False
