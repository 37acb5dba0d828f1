"""The pipeline: a pair -> its sides -> records -> comparison -> verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .causes.dtype import float32_constants
from .causes.explain import explain
from .causes.setup.frozen import frozen_causes
from .causes.setup.initializers import same_random_stream
from .causes.setup.ties import holding_causes, parted_causes, tie_causes
from .causes.setup.unmatched_sizes import size_causes
from .errors import PairError
from .frameworks.protocol import Runner
from .frameworks.sides import Device, Progress, Sides, choose_backend, choose_device, silent
from .matching import MatchPlan
from .numerics.distributions import Distribution
from .numerics.tolerance import TWINS
from .pairs.batches import batches_of
from .pairs.pair import Pair
from .phases import checks as phase
from .phases.export import export
from .phases.findings import Findings
from .phases.match import plan_of
from .phases.persistence import persistence
from .phases.ties.groups import ties, used
from .phases.ties.storage import probed
from .records.inventory import Holdings, Inventory
from .records.result import Check, Result, Verdict
from .records.sides import SideName, other_side
from .records.trace import AT_INFERENCE, DROPOUT_RATES, State
from .stepping.free_run import FreeRun, free_running, in_turns
from .stepping.lockstep import ReferenceStep, StepPair, in_float32, in_modes, reference_steps, resynced

ON_REQUEST = ("modes", "persistence", "export")
"""Phases that run only where the call or the pair asks for them: compiling and exporting take longer than everything
else, and say something about each side rather than about the port."""

AVAILABLE = ("inventory", "initialization", "sync", *phase.STEP_PHASES, "trajectory", *ON_REQUEST)
"""The phases there are, in order."""

EVERY = "all"
"""Asks for every phase there is."""

MODE_STEPS = 2
"""Steps per mode: the second starts from slots that are not zero."""

FREE_STEPS = 20
"""Steps of the free run, unless another number is asked for."""


def check(
    pair: Pair,
    *,
    steps: int = 5,
    seed: int = 0,
    free_steps: int | None = None,
    precision: Sequence[str] = ("float64", "float32"),
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
        free_steps: steps of the free run, which is never re-synced; 0 for none. None takes `FREE_STEPS`, or as many
            as the pair has batches for.
        precision: "float64" for the semantic verdict; with "float32" also the numeric one, where the first passed.
        device: "auto" takes a GPU that both frameworks see, else the CPU.
        keras_backend: "tensorflow", "jax" or "torch"; None takes KERAS_BACKEND, or what is already imported.
        phases: which phases to run; None runs all but those on request, and ["all"] every one.
        progress: called with a word on what is being done.

    Returns:
        The result. Its verdict is the worst of its checks.

    Raises:
        BadInput: something the user gave cannot be used; `error.result` holds what was computed before.
    """
    findings = begin(pair, seed, steps, phases)
    with findings.reporting():
        validate(steps, seed, precision)
        choose_backend(pair, keras_backend)
        sides = Sides(findings, choose_device(pair, device), progress)
        plan = _semantic(findings, sides)
        if findings.passes():
            if "float32" in precision:
                numeric(findings, sides, plan)
            if "trajectory" in findings.phases and free_steps != 0:
                if any(cause.id == "float32_constant" for cause in findings.causes):
                    findings.checks.append(_no_free_run())
                else:
                    trajectory(findings, sides, plan, free_steps)
            if "modes" in findings.phases:
                modes(findings, sides, "float32" in precision)
        alone = [p for p in ("persistence", "export") if p in findings.phases]
        if plan.needed:
            findings.checks += map(_not_asked, alone)
        else:  # what is said of each side alone holds where they differ, too
            if "persistence" in alone:
                persistence(findings, sides)
            if "export" in alone:
                export(findings, sides, plan)
    return findings.result()


@dataclass(frozen=True)
class Reference:
    """The reference's half of a run, live or recorded.

    Attributes:
        inventory: of the side.
        initial: state before the first step.
        steps: what it does, step by step.
        unmapped_slots: optimizer slots without a known role, asked after a step.
        promises: path -> distribution that a parameter is said to start from.
        runner: to look into; None for a recording.
        holdings: what its optimizer was given to train.
    """

    inventory: Inventory
    initial: State
    steps: Iterator[ReferenceStep]
    unmapped_slots: Callable[[], list[str]]
    promises: Mapping[str, Distribution]
    runner: Runner | None = None
    holdings: Holdings | None = None


def _semantic(findings: Findings, sides: Sides) -> MatchPlan:
    """The semantic phases; nothing of the two sides is left when it ends."""
    pair, seed = findings.pair, findings.seed
    with sides.open(pair.reference) as runner:
        steps = reference_steps(runner, batches_of(pair, seed, findings.steps), precision="float64", seed=seed)
        told = runner.unmapped_slots, runner.promises(), runner, runner.holdings()
        reference = Reference(probed(runner), runner.read(), steps, *told)
        with sides.open(other_side(pair.reference)) as follower:
            return pipeline(findings, reference, follower, sides.progress)


def pipeline(findings: Findings, reference: Reference, follower: Runner, progress: Progress) -> MatchPlan:
    """The semantic phases in float64, in order.

    Args:
        findings: filled in as the run goes.
        reference: its half of the run.
        follower: the other side, built.
        progress: called with a word on what is being done.

    Returns:
        The plan.
    """
    progress("matching")
    plan = _match(findings, reference, follower)
    if "initialization" in findings.phases:
        given = phase.transferred(plan, reference.initial, follower.read())
        same = sum(path in given for path in reference.initial.parameters)
        if same:
            told = f"{same} parameters start from the same numbers on both sides"
            findings.notes.append(f"{told}: they were carried over, and no initializer was asked of them")
        _start(findings, plan.reference, reference.initial, reference.promises, given)
        _start(findings, plan.follower, follower.read(), follower.promises(), given)
    if "sync" in findings.phases:
        findings.checks += _sync(reference, follower, plan)
    lacking = plan.unmatched_torch or plan.unmatched_keras
    why = "no step was run: with parameters unmatched the sides cannot start from one state" if plan.needed else ""
    if (lacking or plan.doubts) and "inventory" not in findings.phases:
        detail = why or ("a parameter has no counterpart" if lacking else plan.doubts[0].detail)
        name = "unmatched parameters" if lacking else "matches"
        findings.checks.append(Check("inventory", None, None, name, None, None, Verdict.INCONCLUSIVE, detail=detail))
    if plan.needed:
        findings.notes.append(why)
        return plan
    progress("training both sides in float64")
    untouched = {m.name(plan.reference) for m in plan.trained}
    made = 0
    for step in _timed(findings, resynced(reference.steps, follower, plan, seed=findings.seed)):
        _compare_step(findings, plan, step, "float64")
        if "gradient" in findings.phases:
            findings.notes += phase.unsplit(plan, step)
            if step.number == 1:
                findings.ties = used(findings.ties, plan, step.reference.record, step.follower)
        findings.count_step(step.number)
        findings.notes += [note for note in phase.average_notes(plan, step) if note not in findings.notes]
        if "update" in findings.phases:
            findings.checks += phase.overwriting(plan, step, findings.environment)
        explain(findings, plan, step, reference.runner, follower)
        untouched &= phase.zero_gradients(plan, step)
        made = step.number
        unmapped = [*reference.unmapped_slots(), *follower.unmapped_slots()]
        if unmapped:
            findings.checks += [_unmapped(name, step.number) for name in unmapped]
            return plan  # the next step could not start from the reference's state
        progress(f"step {step.number} of {findings.steps} in float64")
        del step
    if made < findings.steps:
        findings.notes.append(f"the run ended with step {made}, which changed what is tied")
    if any(c.name in (DROPOUT_RATES, AT_INFERENCE) for c in findings.checks):
        findings.notes.append("dropout is switched off on both sides, and its rates are compared")
    if "gradient" in findings.phases:
        findings.checks += phase.silent_gradients(plan, findings.checks, untouched, "float64")
        if not any(m.trainable for m in plan.parameters):
            findings.notes.append("no gradient was compared: nothing is trainable on either side")
    return plan


def _compare_step(findings: Findings, plan: MatchPlan, step: StepPair, precision: str) -> None:
    with findings.timed("compare"):
        for name, compare in phase.STEP_PHASES.items():
            if name not in findings.phases:
                continue
            found = compare(plan, step, precision)
            if precision == "float64" and not step.moved and any(c.verdict is Verdict.DIFFERENT for c in found):
                step = step.with_float32_moved(plan)
                uses = [c for c in found if c.of_use]
                found = compare(plan, step, precision) if step.moved else found
                if step.moved and any(c.verdict is Verdict.DIFFERENT for c in found):
                    found += uses  # the difference is not that of float32 numbers: its uses say where it is
            if step.moved and not any(cause.id == "float32_constant" for cause in findings.causes):
                findings.causes += float32_constants(found, step.places)
            findings.checks += phase.trusted(step, found)
    findings.checks += phase.repeat_checks(step)


def numeric(findings: Findings, sides: Sides, plan: MatchPlan) -> None:
    """The numeric verdict: both sides in float32 against the reference in float64, step by step."""
    reference, follower = plan.reference, plan.follower
    sides.progress("training both sides in float32")
    with (
        sides.open(reference) as truth,
        sides.open(reference, "float32") as own,
        sides.open(follower, "float32") as other,
    ):
        batches = batches_of(findings.pair, findings.seed, findings.steps)
        for step in _timed(findings, in_float32(truth, own, other, plan, batches, seed=findings.seed)):
            _compare_step(findings, plan, step, "float32")


def trajectory(findings: Findings, sides: Sides, plan: MatchPlan, free_steps: int | None) -> None:
    """The free run: both sides from one state, never re-synced, against the envelope of the reference's twins."""
    steps = FREE_STEPS if free_steps is None else free_steps
    sides.progress(f"running {steps} free steps")
    with contextlib.ExitStack() as stack:
        reference, *twins = _several(sides, stack, plan.reference, 1 + TWINS)
        follower = stack.enter_context(sides.open(plan.follower))
        batches = batches_of(findings.pair, findings.seed, steps, option="--free-steps", fewer=free_steps is None)
        run = free_running(reference, twins, follower, plan, batches, precision="float64", seed=findings.seed)
        for step in _timed(findings, run):
            findings.checks += phase.trajectory_checks(plan, step, "float64")


def _several(sides: Sides, stack: contextlib.ExitStack, side: SideName, count: int) -> list[FreeRun]:
    """Runs of one side, built alike; where memory is scarce one model takes their turns."""
    if sides.store.on_disk:
        return in_turns(stack.enter_context(sides.open(side)), count)
    return [stack.enter_context(sides.open(side)) for _ in range(count)]


def modes(findings: Findings, sides: Sides, float32: bool) -> None:
    """Each side in every mode it has against itself in eager mode; in float32 too, where that passed."""
    _modes(findings, sides, "float64")
    if float32 and findings.passes():
        _modes(findings, sides, "float32")


def _modes(findings: Findings, sides: Sides, precision: str) -> None:
    for side in ("torch", "keras"):
        sides.progress(f"running the {side} side in other modes in {precision}")
        with contextlib.ExitStack() as stack:
            runner = stack.enter_context(sides.open(side, precision))
            truth = stack.enter_context(sides.open(side)) if precision == "float32" else None
            stack.enter_context(findings.timed("modes"))
            batches = batches_of(findings.pair, findings.seed, min(MODE_STEPS, findings.steps))
            for step, found in in_modes(runner, batches, seed=findings.seed, truth=truth):
                findings.checks += phase.mode_checks(side, step, found, precision)


def _match(findings: Findings, reference: Reference, follower: Runner) -> MatchPlan:
    pair = findings.pair
    with findings.timed("match"):
        plan = plan_of(pair, findings.seed, reference.inventory, follower, reference.runner)
    by_side: dict[SideName, Inventory] = {pair.reference: reference.inventory, follower.side: probed(follower)}
    torch, keras = by_side["torch"], by_side["keras"]
    findings.matched(plan)
    findings.ties = ties(plan, torch, keras, follower.read())
    if "inventory" in findings.phases:
        holdings: dict[SideName, Holdings | None] = {pair.reference: reference.holdings}
        holdings[follower.side] = follower.holdings()
        findings.checks += phase.inventory_checks(plan, torch, keras, findings.ties, pair.ties)
        findings.checks += phase.holding_checks(plan, torch, keras, holdings)
        findings.causes += tie_causes(plan, findings.ties) + frozen_causes(plan) + holding_causes(by_side, holdings)
        built: dict[SideName, State] = {pair.reference: reference.initial, follower.side: follower.read()}
        findings.causes += parted_causes(plan, by_side, built) + size_causes(plan, by_side)
    return plan


def _start(
    findings: Findings, side: SideName, initial: State, promises: Mapping[str, Distribution], given: frozenset[str]
) -> None:
    drawn = {path: promise for path, promise in promises.items() if path not in given}
    findings.checks += phase.initialization_checks(side, initial.values(), drawn)
    again = {path for group in initial.ties for path in group[1:]}  # of one storage, whatever the objects over it
    findings.causes += same_random_stream(side, {p: v for p, v in initial.parameters.items() if p not in again})


def _sync(reference: Reference, follower: Runner, plan: MatchPlan) -> list[Check]:
    wanted, before = plan.for_follower(reference.initial, slots=False), follower.read()
    follower.write(wanted)
    after = follower.read()
    return phase.sync_checks(plan, "float64", wanted, after) + phase.synced_ties(plan, before, after)


def _timed(findings: Findings, steps: Iterator[StepPair]) -> Iterator[StepPair]:
    while True:
        with findings.timed("train"):
            step = next(steps, None)
        if step is None:
            return
        yield step
        del step  # many copies of all parameters, which must be gone before the next ones are made


def _unmapped(name: str, step: int) -> Check:
    detail = (
        "this optimizer keeps something that has no known counterpart, so it is neither compared nor carried over, and "
        "the run ends here: use an optimizer that both frameworks have, or one of xcheck.optim"
    )
    if "gradient_accumulator" in name:
        detail = (
            "Keras adds gradients up over several steps (gradient_accumulation_steps), and the reference has no such "
            "memory to start from, so the run ends here: let one batch be what one update is made from, and call the "
            "model on parts of it within the step"
        )
    return Check("update", "float64", step, name, None, None, Verdict.INCONCLUSIVE, detail=detail)


def _not_asked(phase: str) -> Check:
    detail = "not made: with parameters unmatched it is not known what each side is made of"
    return Check(phase, None, None, phase, None, None, Verdict.INCONCLUSIVE, detail=detail)


def _no_free_run() -> Check:
    detail = (
        "not made: numbers that float32 has rounded part the sides in every step of it; make them in the float type "
        "of the model, or leave the free run out with --free-steps 0"
    )
    return Check("trajectory", "float64", None, "free run", None, None, Verdict.INCONCLUSIVE, detail=detail)


# What a run is given ---------------------------------------------------------------------------------------------


def begin(pair: Pair, seed: int, steps: int, phases: Sequence[str] | None) -> Findings:
    """Empty findings for the phases that are asked for.

    Raises:
        PairError: a phase does not exist.
    """
    if phases is not None and EVERY in phases:
        phases = AVAILABLE
    unknown = [p for p in phases or () if p not in AVAILABLE]
    if unknown:
        raise PairError(f"There is no phase {unknown[0]!r}.", numbers=f"there are: {', '.join(AVAILABLE)}")
    usual = tuple(p for p in AVAILABLE if p not in ON_REQUEST or p in pair.also)
    chosen = usual if phases is None else tuple(p for p in AVAILABLE if p in phases)
    return Findings(pair, seed, steps, chosen, complete=set(chosen) >= set(usual))


def validate(steps: int, seed: int, precision: Sequence[str]) -> None:
    """Refuse what cannot be run.

    Raises:
        PairError: there is no step, or a precision that cannot be judged.
    """
    if steps < 1:
        raise PairError("A check needs at least one step.", numbers=f"--steps {steps}")
    if seed < 0:
        raise PairError("A seed is a whole number from 0.", numbers=f"--seed {seed}")
    if "float64" not in precision or not set(precision) <= {"float64", "float32"}:
        raise PairError(
            "A check needs float64, and takes float32 besides.",
            numbers=f"--precision {','.join(precision)}",
            cause="only in float64 does a difference stand clear of rounding",
            todo="run with --precision float64 or --precision float64,float32",
        )
