"""Why a step differs: the first place where the sides part, and the causes that are found there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..frameworks.protocol import Runner
from ..matching import MatchPlan
from ..phases import NEEDS
from ..phases.findings import Findings
from ..phases.phase import Live
from ..phases.trajectory import FLOAT32_CONSTANT, FLOAT32_OPERATION
from ..records.calls import Calls, everywhere
from ..records.isolated_hypotheses import isolated, nothing
from ..records.result import Cause, Check, Divergence, Verdict
from ..records.sides import SideName
from ..records.trace import AT_INFERENCE, DROPOUT_NOISE, DROPOUT_RATES, OF_DROPOUT, Arrays, StepRecord
from ..records.uses import PENALTY
from ..stepping.lockstep import StepPair
from .dtype import float32_constants
from .forward.dropout import dropout_causes, dropping_at_inference
from .forward.dropped_tensors import explain_noise
from .forward.families import forward_causes
from .forward.layout import packed_outputs
from .forward.one_computation import Local
from .forward.unexplained import reproduction_of, unexplained
from .gradient.backward_scaling import passed_back_causes
from .gradient.padding_row import PADDING_ROW, row_causes
from .gradient.uses import transferred_copies, use_causes
from .gradient.zero_grad import NOT_RESET, kept_gradients, sampled
from .locate.agreed import agreed_before
from .locate.axis_order import before, flattened_outputs
from .locate.backward import way_back
from .locate.call_count import number_of_calls
from .locate.constant_tables import table_cause
from .locate.extra_call import extra_call
from .locate.forward import local_of, made_of, partings
from .locate.input_mismatch import other_inputs
from .locate.loss.search import loss_search
from .locate.reordered import reordered_outputs
from .locate.replay import Scene, calls_from_start
from .locate.sizes import other_sizes
from .locate.stopped_gradients import stopped_gradients
from .locate.tries import ends_of
from .random_layers import drawing_check, random_layer, undecided, with_dropout
from .recomputed import REPRODUCED
from .refused_tracing import ended_by_user_code
from .setup.ties import parting_causes
from .state.joined_batches import joined_batches
from .state.statistics import running_means, statistics_causes
from .update.averages import own_average_causes
from .update.optimizer import update_causes
from .update.sparse_squares import squares_of_lookups
from .update.summed_parameters import added_up_parameters
from .update.whole_steps import rates_of_some, whole_step_causes

INSIDE = ("forward",)
"""Phases whose differences can be followed into the models."""

BEFORE_THE_UPDATE = ("forward", "loss", "gradient")
"""Phases of a step up to its gradients."""


def explain_float32(findings: Findings, step: StepPair, checks: Sequence[Check]) -> None:
    """Say once that numbers of float32 explain what is left of a difference."""
    if step.moved and not any(c.id in (FLOAT32_CONSTANT, FLOAT32_OPERATION) for c in findings.causes):
        findings.causes += float32_constants(checks, step.places)


def explain_step(live: Live, step: StepPair) -> None:
    """Look for the cause of each first difference: one that follows from no difference in a phase before it.

    Args:
        live: both sides, left at some state of the step; what is found is added to its findings.
        step: the last one that was compared.
    """
    findings, plan, reference, follower = live.findings, live.plan, live.reference.runner, live.follower
    findings.causes += parting_causes({plan.reference: step.reference.record, plan.follower: step.follower})
    if _random(findings, plan, step, reference, follower):
        return
    _loss(findings, plan, step, reference, follower)
    _kept(findings, plan, step)
    _gradient(findings, plan, step, reference, follower)
    _passed_back(findings, plan, step, reference, follower)
    _update(findings, plan, step, reference, follower)
    _state(findings, plan, step, reference, follower)
    first = findings.first_difference(INSIDE)
    if first is None or first.step != step.number or reference is None:
        return
    with findings.timed("explain"), ended_by_user_code(findings.notes):
        followed = first.error is not None and first.name not in OF_DROPOUT
        if followed and not _joined(findings, plan, step, reference, follower, first):
            training = "(training)" in first.name
            _forward(findings, Scene(reference, follower, plan, step, training, findings.seed), first)
        if _of_rates(findings, step, AT_INFERENCE):
            _at_inference(findings, plan, step, reference, follower, first)
        if _of_rates(findings, step, DROPOUT_RATES):
            _dropout(findings, Scene(reference, follower, plan, step, True, findings.seed), first)
        if _of_rates(findings, step, DROPOUT_NOISE):
            explain_noise(live, Scene(reference, follower, plan, step, True, findings.seed), first)


def _random(findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner | None, follower: Runner) -> bool:
    """Whether what is drawn at random in training explains what differs, so that nothing else need be looked for."""
    draws: Mapping[SideName, Sequence[str]] = findings.draws
    first = _first_in(findings, step, "forward")
    suspected = bool(step.reference.record.draws or step.follower.draws) and step.number == 1
    suspected = suspected or (first is not None and "(training)" in first.name)
    if not draws and suspected and reference is not None:
        batch = step.reference.batch
        with findings.timed("explain"), ended_by_user_code(findings.notes):
            asked: dict[SideName, Runner] = {plan.reference: reference, plan.follower: follower}
            made: dict[SideName, Sequence[str]] = {side: runner.draws(batch) for side, runner in asked.items()}
            draws = with_dropout(made, _rates(plan, step))
        found = drawing_check(draws, step.number) if draws else None
        if found is None:
            return False
        findings.draws = draws
        findings.checks.append(found)
        cause = random_layer(draws)
        inference = first is not None and "(training)" not in first.name
        if cause is not None:
            findings.causes.append(cause)
            if not inference:
                findings.located = replace(_divergence(first or found), torch=cause.torch, keras=cause.keras)
    if draws and all(draws.values()):
        findings.checks = undecided(findings.checks, step.number, draws)
    different = [c for c in findings.checks if c.verdict is Verdict.DIFFERENT]
    return bool(draws) and not any(c.name.endswith("(inference)") for c in different)  # where nothing is drawn


def _first_in(findings: Findings, step: StepPair, phase: str) -> Check | None:
    """The first difference of a phase, if it is in this step and follows from no difference in what the phase needs.

    Dropout rates are no such difference: dropout is off on both sides, and nothing follows from them.
    """
    different = [c for c in findings.checks if c.verdict is Verdict.DIFFERENT]
    if any(c.phase in NEEDS[phase] and c.name not in OF_DROPOUT for c in different):
        return None
    first = next((c for c in different if c.phase == phase), None)
    return first if first is not None and first.step == step.number else None


@isolated(nothing)
def _loss(findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner | None, follower: Runner) -> None:
    """Look for the cause of the first loss that differs though the outputs agree."""
    first = _first_in(findings, step, "loss")
    if first is None:
        return
    with findings.timed("explain"):
        environments = findings.environment["torch"], findings.environment["keras"]
        causes, place = loss_search(plan, step, reference, follower, environments, findings.notes)
    findings.causes += merged(causes)
    if place is not None:
        # The cause may be more exact than the place: an operation that one side alone has comes before it.
        at = next(((c.torch, c.keras) for c in causes if c.confirmed), (place.torch.name, place.keras.name))
        findings.located = replace(_divergence(first), torch=at[0], keras=at[1])


@isolated(nothing)
def _kept(findings: Findings, plan: MatchPlan, step: StepPair) -> None:
    """Look for gradients that the step before has left, and keep some of this step's."""
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    if _first_in(findings, step, "gradient") is not None and findings.sampled:
        findings.causes += kept_gradients(plan, findings.sampled, records)
    findings.sampled = sampled(plan, records)


@isolated(nothing)
def _gradient(findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner | None, follower: Runner) -> None:
    """Look for what explains gradients that differ; the uses of shared weights were taken in the first step."""
    checks = [c for c in findings.checks if c.phase == "gradient" and c.step == step.number]
    known = any(cause.id == NOT_RESET for cause in findings.causes)
    if known or not any(c.verdict is Verdict.DIFFERENT for c in checks):
        return
    found = use_causes(plan, step.reference.record, step.follower)
    if any(cause.id.startswith("penalty_") and cause.confirmed for cause in findings.causes):
        found = [cause for cause in found if cause.evidence["uses"] != [PENALTY]]
    found += transferred_copies(plan, step.reference.record, step.follower)
    if not any(cause.id == PADDING_ROW for cause in findings.causes):
        kinds = {entry.path: entry.kind for entry in follower.inventory().entries}
        found += row_causes(plan, step.reference.record, step.follower, kinds)
    first = findings.first_difference(BEFORE_THE_UPDATE)
    if not found and first is not None and (first.phase, first.step) == ("gradient", step.number):
        with findings.timed("explain"), ended_by_user_code(findings.notes):
            found = stopped_gradients(plan, step, checks, reference, follower)
    findings.causes += found


@isolated(nothing)
def _passed_back(
    findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner | None, follower: Runner
) -> None:
    """Look for the first place on the way back, where all that is computed forward agrees."""
    first = _first_in(findings, step, "gradient")
    if first is None or reference is None:
        return
    if findings.environment["keras"].get("backend") == "jax":  # differentiates functions, not what happens inside
        findings.notes.append("with Keras on JAX the place where gradients first differ is not searched for")
        return
    with findings.timed("explain"), ended_by_user_code(findings.notes):
        found = way_back(Scene(reference, follower, plan, step, True, findings.seed, gradients=True))
        if found is None:
            return
        error, allowed = found.check.error or 0.0, found.check.allowed or 0.0
        names = found.torch.name, found.keras.name
        findings.located = Divergence(
            "gradient", first.precision, first.step, *names, error, allowed, found.check.name, found.agreed
        )
        if not any(cause.phase == "gradient" and cause.confirmed for cause in findings.causes):
            given = found.reference, found.other
            findings.causes += passed_back_causes(plan.reference, *given, allowed, *names, error)


@isolated(nothing)
def _update(findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner | None, follower: Runner) -> None:
    """Look for the cause of the first update that differs though its gradients agree."""
    if any(cause.phase == "update" for cause in findings.causes) or _first_in(findings, step, "update") is None:
        return
    torch, keras = findings.environment["torch"], findings.environment["keras"]
    records = step.reference.record, step.follower
    whole = whole_step_causes(plan, *records, torch, keras)
    if any(cause.confirmed for cause in whole):
        findings.causes += whole
        return
    found = update_causes(plan, *records, torch, keras) + added_up_parameters(plan, *records)
    confirmed = {cause.id for cause in found if cause.confirmed}
    if keras.get("backend") == "tensorflow" and confirmed <= {"clipping"}:  # a norm over lookups is as a wrong limit
        runner, record = (follower, records[1]) if plan.follower == "keras" else (reference, records[0])
        with ended_by_user_code(findings.notes):
            calls = calls_from_start(plan, step, runner, gradients=True) if runner is not None else ()
            squares = squares_of_lookups(calls, record.gradients)
            found = (update_causes(plan, *records, torch, keras, squares) if squares else []) or found
    if not any(cause.confirmed for cause in found):
        found = rates_of_some(plan, *records) or found
    findings.causes += found + whole + own_average_causes(plan, *records, keras)


@isolated(nothing)
def _state(findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner | None, follower: Runner) -> None:
    """Look for the cause of the first running statistics that differ though all else agrees."""
    if _first_in(findings, step, "state") is None or reference is None or not running_means(plan):
        return
    with findings.timed("explain"), ended_by_user_code(findings.notes):
        calls = [calls_from_start(plan, step, runner) for runner in (reference, follower)]
        findings.causes += merged(statistics_causes(plan, step.reference.record, step.follower, calls[0], calls[1]))


@isolated(bool)
def _joined(
    findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner, follower: Runner, first: Check
) -> bool:
    """Whether outputs that differ in training alone are those of a norm that sees several batches as one."""
    if "(training)" not in first.name or not running_means(plan):
        return False
    calls = [calls_from_start(plan, step, runner) for runner in (reference, follower)]
    found = joined_batches(plan, step.reference.record, step.follower, calls[0], calls[1])
    if found is not None:
        torch, keras = found.torch.name, found.keras.name
        findings.located = Divergence(
            first.phase, first.precision, first.step, torch, keras, found.error, REPRODUCED, first.name
        )
        findings.causes.append(found.cause)
    return found is not None


def _of_rates(findings: Findings, step: StepPair, name: str) -> bool:
    """Whether the rates of dropout differ in this step, which stand for what it would have done."""
    found = (c for c in findings.checks if (c.name, c.step, c.phase) == (name, step.number, "forward"))
    return any(c.verdict is Verdict.DIFFERENT for c in found)


@isolated(nothing)
def _forward(findings: Findings, scene: Scene, first: Check) -> None:
    given = other_inputs(scene)
    if given is not None:
        findings.causes.append(given)
        error, allowed = given.evidence["before"], given.evidence["allowed"]
        findings.located = replace(
            _divergence(first), torch=given.torch, keras=given.keras, local_error=error, allowed=allowed
        )
        return
    packed = packed_outputs(scene.plan)
    if packed:
        findings.causes += packed
        findings.located = replace(_divergence(first), torch=packed[0].torch, keras=packed[0].keras)
        return
    ends = ends_of(scene.aligned({}))
    if any(ends) and not all(ends):  # what differs is somewhere in the other model too: two parts of it start alike
        scene = scene.at_other_weights()
    extra = number_of_calls(scene) or extra_call(scene)
    found = (
        []
        if extra is not None and extra.confirmed
        else partings(scene, lambda local: any(cause.confirmed for cause in forward_causes(local)))
    )
    if not found:
        causes = [extra] if extra is not None else flattened_outputs(scene) or reordered_outputs(scene)
        findings.causes += causes
        if causes:
            findings.located = replace(_divergence(first), torch=causes[0].torch, keras=causes[0].keras)
        return
    causes: list[Cause] = []
    where: Cause | None = None  # which may be more exact than the place
    unknown: Local | None = None
    for i, parting in enumerate(found):
        local = local_of(scene, parting)
        # Nothing shows that an operation is lacking where its value in the place of the other leads nowhere.
        lacks = parting.suspect.lacking and not parting.proven
        told = [] if lacks else forward_causes(local)
        if parting.suspect.lacking and extra is not None:  # the layer that is called more often may be the reason
            told = [extra, *(replace(cause, confirmed=False) for cause in told)]
        if not told or told[0].id == "permuted_axes":  # something before may be what changed the order
            earlier = before(scene, parting)
            why = forward_causes(local_of(scene, earlier)) if earlier is not None else []
            if earlier is not None and why:
                found[i], told = earlier, why
        if not told and i == 0:
            table = table_cause(scene, parting)
            told = [table] if table is not None else other_sizes(scene, parting)
            unknown = None if told else local
        where = told[0] if told and i == 0 else where
        if unknown is not None and i and made_of(found[0], parting):  # both may be one difference, of another kind
            told = [replace(cause, confirmed=False) for cause in told]
        causes += told
    top = found[0]
    table = next((cause for cause in causes if cause.id == "other_table"), None)
    findings.located = Divergence(
        first.phase,
        first.precision,
        first.step,
        top.torch.name if where is None else where.torch,
        top.keras.name if where is None else where.keras,
        top.check.error if table is None else table.evidence["before"],
        top.check.allowed if table is None else table.evidence["allowed"],
        first.name,
        agreed_before(scene, top),
    )
    findings.causes += merged(causes)
    if unknown is not None and top.check.error is not None:
        findings.causes.append(unexplained(unknown, scene.mask))
        findings.reproduction = reproduction_of(unknown)


def _divergence(first: Check) -> Divergence:
    where = first.phase, first.precision, first.step, first.torch, first.keras
    return Divergence(*where, first.error, first.allowed, first.name)


@isolated(nothing)
def _at_inference(
    findings: Findings, plan: MatchPlan, step: StepPair, reference: Runner, follower: Runner, first: Check
) -> None:
    """Say which side drops something at inference."""
    batch = step.reference.batch
    rates: dict[SideName, Arrays] = {
        plan.reference: step.reference.record.settings,
        plan.follower: step.follower.settings,
    }
    runners: dict[SideName, Runner] = {plan.reference: reference, plan.follower: follower}
    calls: dict[SideName, Calls] = {side: runner.calls(batch, inside=everywhere) for side, runner in runners.items()}
    causes = dropping_at_inference(rates, calls)
    findings.causes += causes
    if causes and first.name == AT_INFERENCE and (causes[0].torch or causes[0].keras):
        findings.located = replace(_divergence(first), torch=causes[0].torch, keras=causes[0].keras)


@isolated(nothing)
def _dropout(findings: Findings, scene: Scene, first: Check) -> None:
    """Dropout changes nothing in a run, since it is off: its rates are compared, and its calls looked up."""
    causes = dropout_causes(scene.aligned({}), scene.plan.reference, _rates(scene.plan, scene.step))
    findings.causes += causes
    if causes and first.name == DROPOUT_RATES:
        at = replace(first, torch=causes[0].torch, keras=causes[0].keras)
        findings.located = Divergence(
            at.phase, at.precision, at.step, at.torch, at.keras, at.error, at.allowed, at.name, "what goes in there"
        )


def _rates(plan: MatchPlan, step: StepPair) -> dict[SideName, list[float]]:
    """The rates of the dropout that was switched off on each side."""
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    return {side: record.settings.get(DROPOUT_RATES, np.zeros(0)).tolist() for side, record in records.items()}


def merged(causes: Sequence[Cause]) -> list[Cause]:
    """One cause for several places that have the same."""
    kept: list[Cause] = []
    for cause in causes:
        same = next((k for k in kept if (k.id, k.summary) == (cause.id, cause.summary)), None)
        if same is None:
            kept.append(cause)
        else:
            also = [*same.evidence.get("also", ()), f"{cause.torch} and {cause.keras}"]
            every = (*same.exchanges, *cause.exchanges)
            kept[kept.index(same)] = replace(same, evidence={**same.evidence, "also": also}, exchanges=every)
    return kept
