"""Dropout of the same rates on both sides: applied to different tensors, of a different kind, or drawn otherwise."""

from __future__ import annotations

from ...numerics.align import Alignment
from ...phases.phase import Live
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import SCALED, Cause, Check, Divergence, Verdict
from ...records.sides import SideName, other_side
from ...records.trace import DROPOUT_NOISE
from ...stepping.lockstep import StepPair
from ..locate.replay import Scene
from ..prove import read_off
from .dropout import Drop, described, drops


@isolated(nothing)
def explain_dropout(live: Live, step: StepPair) -> None:
    """Say which dropouts make a step differ in which each of them scales its input.

    Args:
        live: both sides; the causes are added to their findings.
        step: that was compared last; with dropout off, it does not differ.
    """
    findings, runner = live.findings, live.reference.runner
    first = next((c for c in findings.checks if _differs(c, step) and c.detail.startswith(SCALED)), None)
    if first is None or runner is None:
        return
    with findings.timed("explain"):
        scene = Scene(runner, live.follower, live.plan, step, True, findings.seed)
        causes = place_causes(scene.aligned({}), live.plan.reference)
    findings.causes += causes
    if causes and findings.first_difference([first.phase]) is first:
        where = causes[0].torch, causes[0].keras
        findings.located = Divergence(
            first.phase, first.precision, first.step, *where, first.error, first.allowed, first.name
        )


def _differs(check: Check, step: StepPair) -> bool:
    return check.step == step.number and check.verdict is Verdict.DIFFERENT


def place_causes(alignment: Alignment, reference: SideName) -> list[Cause]:
    """Which dropouts have no partner that drops the same tensor, and which partners are of different kinds.

    The step differs only because of its dropouts, so that what they say of themselves is the difference.

    Args:
        alignment: of a training step without dropout.
        reference: which side is the reference of it.
    """
    of_reference, of_follower = drops(alignment.reference), drops(alignment.follower)
    partners: list[tuple[Drop, Drop]] = []
    for drop in list(of_reference):
        partner = next((d for d in of_follower if d.rate == drop.rate and _same(alignment, drop, d)), None)
        if partner is not None:
            of_reference.remove(drop)
            of_follower.remove(partner)
            partners.append((drop, partner))
    sides = reference, other_side(reference)
    graphs = {sides[0]: alignment.reference, sides[1]: alignment.follower}
    causes: list[Cause] = []
    for pair in partners:
        named = dict(zip(sides, pair, strict=True))
        kinds = {side: _kind(drop) for side, drop in named.items()}
        if len({*kinds.values()}) > 1:
            causes.append(
                Cause(
                    id="dropout_kind",
                    phase="forward",
                    torch=named["torch"].call.name,
                    keras=named["keras"].call.name,
                    summary=f"torch uses {kinds['torch']} dropout and keras {kinds['keras']} dropout, at the same rate",
                    evidence=dict(kinds),
                    fix=f"keras: {_layer(kinds['torch'], named)}, or torch: nn.{_layer(kinds['keras'], named)}",
                )
            )
    if of_reference or of_follower:
        alone = dict(zip(sides, (of_reference, of_follower), strict=True))
        words = {
            side: ", ".join(f"{described(graphs[side], d)} at a rate of {d.rate:g}" for d in each) or "nothing more"
            for side, each in alone.items()
        }
        causes.append(
            Cause(
                id="dropout_place",
                phase="forward",
                torch=alone["torch"][0].call.name if alone["torch"] else None,
                keras=alone["keras"][0].call.name if alone["keras"] else None,
                summary=f"dropout is applied to different tensors: torch drops {words['torch']}; "
                f"keras drops {words['keras']}",
                evidence=dict(words),
                fix=f"keras: apply the dropout to {words['torch']}, as torch does, or torch: apply it to "
                f"{words['keras']}, as keras does",
            )
        )
    # Beside a pair of different kinds, an unpaired dropout may commute with what lies between, and differ in nothing.
    kinds = [cause for cause in causes if cause.id == "dropout_kind"]
    return [cause if kinds and cause not in kinds else read_off(cause) for cause in causes]


def noise_causes(alignment: Alignment, reference: SideName, check: Check) -> list[Cause]:
    """Why the same rates go with different numbers of random numbers.

    Args:
        alignment: of a training step without dropout.
        reference: which side is the reference of it.
        check: of `DROPOUT_NOISE`.
    """
    sides = reference, other_side(reference)
    every = dict(zip(sides, (drops(alignment.reference), drops(alignment.follower)), strict=True))
    pairs = [(t, k) for t in every["torch"] for k in every["keras"] if t.rate == k.rate and t.call.kind != k.call.kind]
    only = pairs[0] if len(pairs) == 1 else None
    cause = Cause(
        id="dropout_noise",
        phase="forward",
        torch=only[0].call.name if only else None,
        keras=only[1].call.name if only else None,
        summary="dropout is drawn for different parts of a tensor (elements, whole channels or positions, or whole "
        f"examples): {check.detail}",
        evidence={"drawn": check.detail},
        fix="keras: Dropout(rate, noise_shape=...) or SpatialDropout, "
        "or torch: nn.Dropout for elements, nn.Dropout1d, 2d or 3d for whole channels",
    )
    return [read_off(cause)]


def explain_noise(live: Live, scene: Scene, first: Check) -> None:
    """Add the cause of different numbers of random numbers to the findings.

    Args:
        live: both sides.
        scene: of the step.
        first: the first difference, which need not be that of `DROPOUT_NOISE`.
    """
    of_noise = (c for c in live.findings.checks if c.name == DROPOUT_NOISE and c.step == scene.step.number)
    check = next(c for c in of_noise if c.verdict is Verdict.DIFFERENT)
    causes = noise_causes(scene.aligned({}), live.plan.reference, check)
    live.findings.causes += causes
    if first is check:
        where = check.phase, check.precision, check.step, causes[0].torch, causes[0].keras
        live.findings.located = Divergence(*where, check.error, check.allowed, check.name)


def _same(alignment: Alignment, drop: Drop, other: Drop) -> bool:
    if drop.key is not None and other.key is not None:
        return alignment.same(drop.key, other.key)
    return any(alignment.same(key, there) for key in drop.made for there in other.made)


def _kind(drop: Drop) -> str:
    return "alpha" if "alpha" in drop.call.kind.lower() else "plain"


def _layer(kind: str, named: dict[SideName, Drop]) -> str:
    rate = next(iter(named.values())).rate
    return f"{'AlphaDropout' if kind == 'alpha' else 'Dropout'}({rate:g})"
