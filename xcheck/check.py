"""`check()`: a pair -> two sides -> records -> comparison -> verdict, phase by phase."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from .causes import judged_step
from .causes.explain import EXPLANATIONS
from .causes.setup.explain import explain_setup
from .frameworks.protocol import Runner
from .frameworks.sides import Device, Progress, Sides, canaries, choose_backend, choose_device, silent
from .matching import MatchPlan
from .pairs.batches import batches_of
from .pairs.live_models import pair_of
from .pairs.pair import Pair
from .phases import chosen
from .phases.accepting import accept_causes, known_names, leave_out
from .phases.averages import average_notes, overwriting
from .phases.begin import begin, validate
from .phases.canaries import sit_out
from .phases.findings import Findings
from .phases.finite import within_range
from .phases.inventory import NO_STEP, match_sides, unmatched
from .phases.kept_apart import KeptApart, added_up, not_applied
from .phases.ordinary import Ordinary
from .phases.phase import Live, Run
from .phases.reach import AFTER, MadeBatches, Reach
from .phases.schedules import schedule_checks
from .phases.steps import Untouched, end_notes, not_asked, timed
from .phases.ties.storage import probed
from .phases.unproven import settle
from .records.sides import other_side
from .report.result import Result
from .stepping.lockstep import in_float32, reference_steps, resynced
from .stepping.reference import Reference


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
    reach: Reach = "default",
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
        reach: whether batches made from the given ones are tried too: "none", "default" (the six that tell most)
            or "full".
        progress: called with a word on what is being done.

    Returns:
        The result. Its verdict is the worst of its checks.

    Raises:
        BadInput: something the user gave cannot be used; `error.result` holds what was computed before.
    """
    findings = begin(pair, seed, steps, phases, reach)
    with findings.reporting():
        validate(steps, seed, precision)
        choose_backend(pair, keras_backend)
        if not sit_out(findings, canaries(pair)):
            return findings.result()
        sides = Sides(findings, choose_device(pair, device), progress)
        plan = _semantic(findings, sides)
        float32 = "float32" in precision
        run = Run(findings, sides, plan, EXPLANATIONS, free_steps, float32)
        if float32 and findings.passes():
            _numeric(run)
        equal = findings.passes()
        for phase in chosen(findings):
            if phase.run is None or (phase.only_if_equal and not equal):
                continue
            if plan.needed:
                findings.checks += [] if phase.only_if_equal else [not_asked(phase.name)]
            else:
                phase.run(run)
                accept_causes(findings)
    return findings.result()


def compare(torch_model: Any, keras_model: Any, inputs: Any, **settings: Any) -> Result:
    """Say whether two live models compute the same outputs and gradients from one batch.

    The gradients are those of one fixed projection of the outputs. Parameters are matched by value. Both models are
    left as they are.

    Args:
        torch_model: a `torch.nn.Module`.
        keras_model: a `keras.Model` that is built.
        inputs: one batch, of NumPy or of either framework; a tuple or dict for several inputs, or an `xcheck.Batch`.
        settings: fields of `Pair`, such as `weight_map`, and `torch` or `keras` with fields of a side as a dict.

    Raises:
        BadInput: something cannot be used.
    """
    pair = pair_of(torch_model, keras_model, inputs, name="compare", **settings)
    return check(pair, steps=1, free_steps=0, precision=("float64",))


def _semantic(findings: Findings, sides: Sides) -> MatchPlan:
    """The semantic run of two live sides; nothing of them is left when it ends."""
    with sides.open(findings.pair.reference) as runner:
        reference = _live(findings, runner)
        with sides.open(other_side(findings.pair.reference)) as follower:
            return semantic(findings, reference, follower, sides.progress)


def semantic(findings: Findings, reference: Reference, follower: Runner, progress: Progress) -> MatchPlan:
    """The phases of two open sides in float64, in order.

    Args:
        findings: filled in as the run goes.
        reference: its half of the run.
        follower: the other side, built.
        progress: called with a word on what is being done.

    Returns:
        The plan.
    """
    progress("matching")
    plan = match_sides(findings, reference, follower)
    known_names(findings)
    live = Live(findings, reference, follower, plan, progress)
    for phase in chosen(findings):
        if phase.start is not None:
            phase.start(live)
            explain_setup(live, phase.name)
            accept_causes(findings)
    findings.checks += unmatched(findings, plan)
    if plan.needed:
        findings.notes.append(NO_STEP)
    else:
        _steps(live)
        settle(findings, plan)
    return plan


def _steps(live: Live) -> None:
    findings, plan = live.findings, live.plan
    live.progress("training both sides in float64")
    untouched, apart, made, overflow = Untouched(live), KeptApart(live), 0, list[str]()
    seed, by_effect = findings.seed, findings.by_effect
    steps = timed(findings, resynced(live.reference.steps, live.follower, plan, seed=seed, by_effect=by_effect))
    for step in within_range(chain(steps, timed(findings, untouched.further())), "float64", overflow):
        made = step.number
        judged_step.compare(findings, plan, step, "float64")
        findings.notes += [note for note in average_notes(plan, step) if note not in findings.notes]
        findings.checks += overwriting(plan, step, findings.environment) if "update" in findings.phases else []
        untouched.after(step)
        findings.count_step(made)
        findings.checks = not_applied(live, step)
        judged_step.explain(live, step)
        if ended := added_up(live, made):
            findings.checks += ended
            return
        apart.after(step)
        live.progress(f"step {made} of {findings.steps} in float64")
        del step
    findings.notes += overflow + end_notes(findings, plan, findings.steps if overflow else made)
    apart.judge(made)
    untouched.judge()
    findings.checks += schedule_checks(live) if "update" in findings.phases else []
    leave_out(findings)
    if untouched.batch is not None and not overflow:
        made_batches = MadeBatches(live, made + AFTER, untouched.batch)
        judged_step.judge_further(Ordinary(live, made + 1, untouched.batch))
        judged_step.judge_further(made_batches)


def _numeric(run: Run) -> None:
    """Both sides in float32 against the reference in float64, step by step."""
    findings, sides, plan = run.findings, run.sides, run.plan
    sides.progress("training both sides in float32")
    with (
        sides.open(plan.reference) as truth,
        sides.open(plan.reference, "float32") as own,
        sides.open(plan.follower, "float32") as other,
    ):
        batches = batches_of(findings.pair, findings.seed, findings.steps)
        seed, by_effect = findings.seed, findings.by_effect
        steps = timed(findings, in_float32(truth, own, other, plan, batches, seed=seed, by_effect=by_effect))
        for step in within_range(steps, "float32", findings.notes):
            judged_step.compare(findings, plan, step, "float32")


def _live(findings: Findings, runner: Runner) -> Reference:
    batches = batches_of(findings.pair, findings.seed, findings.steps)
    steps = reference_steps(runner, batches, precision="float64", seed=findings.seed)
    facts = runner.unmapped_slots, runner.promises(), runner, runner.holdings()
    return Reference(probed(runner), runner.read(), steps, *facts)
