"""The pipeline: a pair -> its sides -> records -> comparison -> verdict."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import phases as phase
from .errors import PairError, SetupError
from .findings import Findings
from .inventory import Inventory
from .lockstep import ReferenceStep, StepPair, batches_of, reference_steps, resynced
from .matching import MatchPlan, SideName, plan_from_map, ties
from .pair import Batch, KerasSide, Pair, TorchSide
from .result import PHASES, Check, Result, Verdict
from .sides.base import Runner
from .sides.numpy_side import NumpyRunner, NumpySide
from .trace import State

AVAILABLE = ("inventory", "sync", *phase.STEP_PHASES)
"""The phases this version runs, in order."""

Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """No progress is shown."""


def check(
    pair: Pair,
    *,
    steps: int = 5,
    seed: int = 0,
    precision: Sequence[str] = ("float64",),
    device: Device = "auto",
    keras_backend: str | None = None,
    phases: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Result:
    """Run both sides of a pair and say whether they are the same computation.

    Args:
        pair: what to check.
        steps: training steps, each from the reference's state.
        seed: of the initial weights, the batches and the perturbations.
        precision: "float64" for the semantic verdict.
        device: "auto" takes a GPU that both frameworks see, else the CPU.
        keras_backend: "tensorflow", "jax" or "torch"; None takes KERAS_BACKEND, or what is already imported.
        phases: which phases to run; None runs all that this version has.
        progress: called with a word on what is being done.

    Returns:
        The result. Its verdict is the worst of its checks.

    Raises:
        BadInput: something the user gave cannot be used; `error.result` holds what was computed before.
    """
    findings = begin(pair, seed, steps, phases)
    with findings.reporting():
        validate(steps, precision)
        choose_backend(pair, keras_backend)
        chosen = choose_device(pair, device)
        with open_side(findings, pair.reference, precision[0], chosen, progress) as runner:
            batches = batches_of(pair, seed, steps)
            reference = Reference(
                runner.inventory(),
                runner.read(),
                reference_steps(runner, batches, precision=precision[0], seed=seed),
                runner.unmapped_slots,
            )
            with open_side(findings, other(pair.reference), precision[0], chosen, progress) as follower:
                pipeline(findings, reference, follower, precision[0], progress)
    return findings.result()


@dataclass(frozen=True)
class Reference:
    """The reference's half of a run, live or recorded.

    Attributes:
        inventory: of the side.
        initial: state before the first step.
        steps: what it does, step by step.
        unmapped_slots: optimizer slots without a known role, asked after a step.
    """

    inventory: Inventory
    initial: State
    steps: Iterator[ReferenceStep]
    unmapped_slots: Callable[[], list[str]]


def pipeline(findings: Findings, reference: Reference, follower: Runner, precision: str, progress: Progress) -> None:
    """The phases, in order.

    Args:
        findings: filled in as the run goes.
        reference: its half of the run.
        follower: the other side, built.
        precision: of both.
        progress: called with a word on what is being done.
    """
    plan = _match(findings, reference.inventory, follower)
    if "sync" in findings.phases:
        findings.checks += _sync(reference, follower, plan, precision)
    if plan.unmatched_torch or plan.unmatched_keras:
        findings.notes.append("no step was run: with parameters unmatched the sides cannot start from one state")
        return
    progress("training both sides")
    untouched = {m.path(plan.reference) for m in plan.parameters}
    for step in _timed(findings, resynced(reference.steps, follower, plan)):
        with findings.timed("compare"):
            for name, compare in phase.STEP_PHASES.items():
                if name in findings.phases:
                    findings.checks += compare(plan, step, precision)
        findings.count_step(step.number)
        untouched &= phase.zero_gradients(plan, step)
        unmapped = [*reference.unmapped_slots(), *follower.unmapped_slots()]
        if unmapped:
            findings.checks += [_unmapped(name, precision, step.number) for name in unmapped]
            break  # the next step could not start from the reference's state
        progress(f"step {step.number} of {findings.steps}")
    if "gradient" in findings.phases:
        findings.checks += phase.silent_gradients(plan, findings.checks, untouched, precision)
        if not findings.coverage.get("gradients", {}).get("compared"):
            findings.notes.append("no gradient was compared: nothing is trainable on either side")


def _match(findings: Findings, reference: Inventory, follower: Runner) -> MatchPlan:
    pair = findings.pair
    by_side = {pair.reference: reference, follower.side: follower.inventory()}
    torch, keras = by_side["torch"], by_side["keras"]
    if pair.weight_map is None:
        raise PairError(
            "This pair has no weight_map, and this version does not match parameters by itself.",
            where=f"Pair({pair.name!r})",
            numbers=f"{len(torch.parameters())} torch and {len(keras.parameters())} keras parameters",
            todo="give Pair(weight_map={...}); the paths are\n" + _listing(torch, keras),
        )
    plan = plan_from_map(torch, keras, pair.weight_map, pair.reference)
    findings.matched(plan)
    findings.ties = ties(plan, torch, keras)
    if "inventory" in findings.phases:
        findings.checks += phase.inventory_checks(plan, torch, keras, findings.ties, pair.ties)
    return plan


def _sync(reference: Reference, follower: Runner, plan: MatchPlan, precision: str) -> list[Check]:
    wanted = plan.for_follower(reference.initial, slots=False)
    follower.write(wanted)
    return phase.sync_checks(plan, precision, wanted, follower.read())


def _timed(findings: Findings, steps: Iterator[StepPair]) -> Iterator[StepPair]:
    while True:
        with findings.timed("train"):
            step = next(steps, None)
        if step is None:
            return
        yield step


def _unmapped(name: str, precision: str, step: int) -> Check:
    detail = (
        "this optimizer keeps something that has no known counterpart, so it is neither compared nor carried over, and "
        "the run ends here: use an optimizer that both frameworks have, or one of xcheck.optim"
    )
    return Check("update", precision, step, name, None, None, Verdict.INCONCLUSIVE, detail=detail)


def _listing(torch: Inventory, keras: Inventory, most: int = 60) -> str:
    lines = [f"torch: {e.path} {e.shape}" for e in torch.parameters()]
    lines += [f"keras: {e.path} {e.shape}" for e in keras.parameters()]
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join(lines[:most] + more)


# What a run is given ---------------------------------------------------------------------------------------------


def begin(pair: Pair, seed: int, steps: int, phases: Sequence[str] | None) -> Findings:
    """Empty findings for the phases that are asked for.

    Raises:
        PairError: a phase does not exist, or not in this version.
    """
    unknown = [p for p in phases or () if p not in AVAILABLE]
    if unknown:
        planned = "later versions will have it; " if unknown[0] in PHASES else ""
        raise PairError(f"There is no phase {unknown[0]!r}.", numbers=f"{planned}this one has: {', '.join(AVAILABLE)}")
    chosen = tuple(p for p in AVAILABLE if phases is None or p in phases)
    return Findings(pair, seed, steps, chosen, complete=chosen == AVAILABLE)


def validate(steps: int, precision: Sequence[str]) -> None:
    """Refuse what cannot be run.

    Raises:
        PairError: there is no step, or a precision this version does not judge.
    """
    if steps < 1:
        raise PairError("A check needs at least one step.", numbers=f"--steps {steps}")
    if list(precision) != ["float64"]:
        raise PairError(
            "This version judges in float64 alone.",
            numbers=f"--precision {','.join(precision)}",
            todo="run with --precision float64",
        )


def other(side: SideName) -> SideName:
    """The side that `side` is not."""
    return "keras" if side == "torch" else "torch"


@contextmanager
def open_side(findings: Findings, side: SideName, precision: str, device: str, progress: Progress) -> Generator[Runner]:
    """One side of the pair, built, with its variables made; closed when the block ends."""
    progress(f"building the {side} side")
    declared = getattr(findings.pair, side)
    with findings.timed("sides"):
        runner = _runner(declared, side, precision, device, findings.seed)
    try:
        with findings.timed("sides"):
            _prime(runner, next(batches_of(findings.pair, findings.seed, 1)))
        findings.environment = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "device": device,
            **findings.environment,
            side: dict(runner.environment()),
        }
        yield runner
    finally:
        findings.notes += runner.notes()
        runner.close()


# The one place that knows the concrete sides ---------------------------------------------------------------


def _runner(declared: Any, side: SideName, precision: str, device: str, seed: int) -> Runner:
    if isinstance(declared, TorchSide):
        from .sides.torch_side import TorchRunner

        return TorchRunner(declared, precision=precision, device=device, seed=seed)
    if isinstance(declared, KerasSide):
        from .sides.keras_side import KerasRunner

        return KerasRunner(declared, precision=precision, device=device, seed=seed)
    if isinstance(declared, NumpySide):
        return NumpyRunner(declared, precision=precision, device=device, seed=seed)
    raise PairError(
        f"Pair.{side} is no side.",
        numbers=f"got {type(declared).__name__}",
        todo=f"pass xcheck.{'TorchSide' if side == 'torch' else 'KerasSide'}(...)",
    )


def _prime(runner: Runner, batch: Batch) -> None:
    prime: Callable[[Batch], None] | None = getattr(runner, "prime", None)
    if prime is not None:
        prime(batch)


def choose_backend(pair: Pair, wanted: str | None) -> None:
    """Let Keras start on a backend.

    Raises:
        SetupError: Keras already runs on another one.
    """
    if not isinstance(pair.keras, KerasSide) or wanted is None:
        return
    keras = sys.modules.get("keras")
    if keras is None:
        os.environ["KERAS_BACKEND"] = wanted
        if wanted == "jax":
            os.environ["JAX_ENABLE_X64"] = "1"
        return
    active = keras.config.backend()
    if active != wanted:
        raise SetupError(
            "Keras is already running on another backend.",
            numbers=f"wanted {wanted}, active {active}",
            cause="something imported keras before xcheck could choose; the backend is fixed at the first import",
            todo=f"set KERAS_BACKEND={wanted} in the environment",
        )


def choose_device(pair: Pair, device: Device, *sides: SideName) -> str:
    """The device asked for; "auto" is a GPU if every side that runs sees one."""
    if device != "auto":
        return device
    return "cuda" if all(_sees_gpu(getattr(pair, side)) for side in sides or ("torch", "keras")) else "cpu"


def _sees_gpu(declared: Any) -> bool:
    if isinstance(declared, TorchSide):
        from .sides import torch_side

        return torch_side.sees_gpu()
    if isinstance(declared, KerasSide):
        from .sides import keras_side

        return keras_side.sees_gpu()
    return False
