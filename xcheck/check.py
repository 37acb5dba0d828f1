"""`check()`: a pair -> two sides -> records -> comparison -> verdict, phase by phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .causes import EXPLANATIONS
from .frameworks.protocol import Runner
from .frameworks.sides import Device, Progress, Sides, canaries, choose_backend, choose_device, silent
from .matching import MatchPlan
from .pairs.live_models import pair_of
from .pairs.pair import Pair
from .phases import chosen
from .phases.accepting import accept_causes, validate_names
from .phases.begin import begin, live_reference, validate
from .phases.canaries import skip_broken
from .phases.findings import Findings
from .phases.inventory import NO_STEP, match_sides, unmatched
from .phases.judge_steps import steps_in_float32, steps_in_float64
from .phases.pace import Pace
from .phases.phase import Live, Run
from .phases.reach import Reach
from .phases.steps import skipped_phase
from .phases.unproven import judge_by_match
from .records.sides import other_side
from .report.result import Result
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
    budget: float | None = None,
    progress: Progress = silent,
) -> Result:
    """Run both sides of a pair and decide whether they are the same computation.

    Args:
        pair: what to check.
        steps: training steps, each from the reference's state.
        seed: of the initial weights, the batches and the perturbations.
        free_steps: steps of the free run, which is never re-synced; 0 for none. None uses `FREE_STEPS`, or as many
            as the pair has batches for.
        precision: "float64" for the semantic verdict; with "float32" also the numeric one, if the first passed.
        device: "auto" uses a GPU that both frameworks see, else the CPU.
        keras_backend: "tensorflow", "jax" or "torch"; None uses KERAS_BACKEND, or the backend already imported.
        phases: the phases to run; None runs all except those on request, and ["all"] every one.
        reach: which batches derived from the given ones are also checked: "none", "default" (the six most informative)
            or "full".
        budget: seconds after which nothing new begins, the most telling first: one step, more steps, float32, the
            free run, the other phases; made batches within the first half. What is left out is in `not_covered`.
        progress: called with the current activity.

    Returns:
        The result. Its verdict is the worst of its checks.

    Raises:
        BadInput: the pair or an argument cannot be used; `error.result` has the result so far.
    """
    findings = begin(pair, seed, steps, phases, reach)
    findings.precision, findings.free_steps = tuple(precision), free_steps
    findings.pace = Pace(budget, progress)
    with findings.reporting():
        validate(steps, seed, precision, free_steps)
        choose_backend(pair, keras_backend)
        if not skip_broken(findings, canaries(pair)):
            return findings.result()
        sides = Sides(findings, choose_device(pair, device), progress)
        plan = _semantic(findings, sides)
        run = Run(findings, sides, plan, EXPLANATIONS, free_steps, "float32" in precision)
        if run.float32 and findings.passes() and findings.pace.allows("float32"):
            steps_in_float32(run)
        equal = findings.passes()
        for phase in chosen(findings):
            if phase.run is None or (phase.only_if_equal and not equal):
                continue
            if plan.needed:
                findings.checks += [] if phase.only_if_equal else [skipped_phase(phase.name)]
            elif findings.pace.allows(f"phase {phase.name}"):
                phase.run(run)
                accept_causes(findings)
    return findings.result()


def _semantic(findings: Findings, sides: Sides) -> MatchPlan:
    """The semantic run of two live sides; closes both at the end."""
    with sides.open(findings.pair.reference) as runner:
        reference = live_reference(findings, runner)
        with sides.open(other_side(findings.pair.reference)) as follower:
            return both_open(findings, reference, follower, sides.progress)


def both_open(findings: Findings, reference: Reference, follower: Runner, progress: Progress) -> MatchPlan:
    """The phases that examine two open sides, in float64.

    Args:
        findings: filled in as the run goes.
        reference: the reference, live or recorded.
        follower: the other side, built.
        progress: called with the current activity.

    Returns:
        The match of the parameters.
    """
    progress("matching")
    plan = match_sides(findings, reference, follower)
    validate_names(findings)
    live = Live(findings, reference, follower, plan, EXPLANATIONS, progress)
    for phase in chosen(findings):
        if phase.start is not None:
            phase.start(live)
            EXPLANATIONS.setup(live, phase.name)
            accept_causes(findings)
    findings.checks += unmatched(findings, plan)
    if plan.needed:
        findings.notes.append(NO_STEP)
    else:
        steps_in_float64(live)
        judge_by_match(findings, plan)
    return plan


def compare(torch_model: Any, keras_model: Any, inputs: Any, **settings: Any) -> Result:
    """Decide whether two live models compute the same outputs and gradients from one batch.

    The loss for the gradients is a fixed projection of the outputs. Parameters are matched by value. Neither model is
    changed.

    Args:
        torch_model: a `torch.nn.Module`.
        keras_model: a `keras.Model` that is built.
        inputs: one batch, of NumPy or of either framework; a tuple or dict for several inputs, or an `xcheck.Batch`.
        settings: fields of `Pair`, such as `weight_map`, and `torch` or `keras` with fields of a side as a dict.

    Raises:
        BadInput: an argument cannot be used.
    """
    pair = pair_of(torch_model, keras_model, inputs, name="compare", **settings)
    return check(pair, steps=1, free_steps=0, precision=("float64",))
