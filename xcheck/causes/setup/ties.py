"""Causes in what is tied: a tie that one side lacks, and an optimizer that does not know of the tie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ...matching import MatchPlan
from ...records.inventory import Holdings, Inventory
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause, Tie
from ...records.sides import SideName
from ...records.trace import State, StepRecord
from ..prove import read_off

_TIED: dict[SideName, str] = {
    "keras": "keras: use the layer itself in all places, or let the second layer hold the first one and read its "
    "variable; a copied value, or one initializer object for two layers, makes a second variable",
    "torch": "torch: assign the parameter itself, head.weight = embedding.weight, before the optimizer is created",
}
_UNTIED: dict[SideName, str] = {
    "keras": "keras: create a layer for each place",
    "torch": "torch: create a parameter for each place",
}


@isolated(list[Cause])
def tie_causes(plan: MatchPlan, ties: Sequence[Tie]) -> list[Cause]:
    """One cause for all groups of a status; identity and effect have shown it already.

    Args:
        plan: of the run.
        ties: of the run.
    """
    reference, follower = plan.reference, plan.follower
    told = {
        "equal_but_untied": (
            "equal_but_untied",
            f"are one storage on the {reference} side and several variables on the {follower} side with equal "
            "initial values; each variable trains separately",
            _TIED[follower],
        ),
        "missing": (
            "tie_missing",
            f"are one storage on the {reference} side and several on the {follower} side, where each trains separately",
            _TIED[follower],
        ),
        "extra": (
            "tie_extra",
            f"are one storage on the {follower} side and several on the {reference} side, where each trains separately",
            _UNTIED[follower],
        ),
    }
    # A bias that starts at zero tells nothing by its values, but its layers are those whose kernels start alike.
    untied = {_layers(tie): tie.status for tie in ties if tie.status == "equal_but_untied"}
    causes: list[Cause] = []
    for status, (name, summary, fix) in told.items():
        groups = [
            tie
            for tie in ties
            if (untied.get(_layers(tie), tie.status) if tie.status == "missing" else tie.status) == status
        ]
        if groups:
            first = groups[0]
            shown = " = ".join(first.torch if reference == "torch" else first.keras)
            more = f" and {len(groups) - 1} more groups" if len(groups) > 1 else ""
            causes.append(
                read_off(
                    Cause(
                        id=name,
                        phase="inventory",
                        torch=" = ".join(first.torch),
                        keras=" = ".join(first.keras),
                        summary=f"{shown}{more} {summary}",
                        evidence={"groups": [{"torch": list(t.torch), "keras": list(t.keras)} for t in groups]},
                        fix=fix,
                    )
                )
            )
    return causes


def _layers(tie: Tie) -> tuple[str, ...]:
    return tuple(re.sub(r"[./][^./]*$", "", path) for path in tie.torch)


@isolated(list[Cause])
def parted_causes(
    plan: MatchPlan, inventories: Mapping[SideName, Inventory], states: Mapping[SideName, State]
) -> list[Cause]:
    """Parameters without a counterpart that were one with another: the other side has them as one.

    Args:
        plan: of the run.
        inventories: of both sides.
        states: of both sides as they are built.
    """
    causes: list[Cause] = []
    unmatched: tuple[tuple[SideName, Sequence[str]], ...] = (
        ("torch", plan.unmatched_torch),
        ("keras", plan.unmatched_keras),
    )
    for side, paths in unmatched:
        known = [e for e in inventories[side].parameters() if e.path not in paths]
        for entry in (e for e in inventories[side].parameters() if e.path in paths):
            alike = [e for e in known if e.shape == entry.shape and e.size > 1]
            one = next((e for e in alike if e.storage == entry.storage), None)
            twin = one or next((e for e in alike if _drawn_once(states[side], e.path, entry.path)), None)
            if twin is not None:
                causes.append(_parted(side, twin.path, entry.path, over_one_memory=one is not None))
    return causes


def _drawn_once(state: State, path: str, other: str) -> bool:
    """Whether two parameters start from one value that is not just the same constant."""
    value = state.value(path)
    return bool((value != value.ravel()[:1]).any()) and np.array_equal(value, state.value(other))


def _parted(side: SideName, path: str, other: str, *, over_one_memory: bool) -> Cause:
    if over_one_memory:
        how = "are several parameters over one memory, as load_state_dict(assign=True) leaves a tied one: an optimizer "
        how += "steps each of them"
    else:
        how = "start from equal values but are not tied"
    cause = Cause(
        "tie_lost_by_assign" if over_one_memory else "equal_but_untied",
        "inventory",
        f"{path} = {other}" if side == "torch" else None,
        f"{path} = {other}" if side == "keras" else None,
        f"{path} and {other} of the {side} side {how}; the other side has only the first",
        {"over_one_memory": over_one_memory, "without_counterpart": other},
        fix="torch: load with assign=False, or tie again after loading: b.weight = a.weight"
        if side == "torch"
        else _TIED[side],
    )
    return read_off(cause, shown=over_one_memory)


@isolated(list[Cause])
def parting_causes(records: Mapping[SideName, StepRecord]) -> list[Cause]:
    """Ties that a step undoes.

    Args:
        records: of one step of both sides.
    """
    return [
        _of(
            side,
            "tie_lost_in_step",
            " = ".join(group),
            f"step {record.step} of the {side} side separates {' = '.join(group)}: it replaces one of these "
            "parameters by a new one",
            {"step": record.step, "ties_after": [list(other) for other in record.after.ties]},
            "torch: change values in place, parameter.copy_(...), and load with assign=False"
            if side == "torch"
            else "keras: change values in place, variable.assign(...)",
            phase="update",
        )
        for side, record in records.items()
        for group in record.before.ties
        if not any(set(group) <= set(other) for other in record.after.ties)
    ]


@isolated(list[Cause])
def holding_causes(
    inventories: Mapping[SideName, Inventory], holdings: Mapping[SideName, Holdings | None]
) -> list[Cause]:
    """What an optimizer was given that its model does not hold, or was given twice.

    Args:
        inventories: of both sides.
        holdings: of their optimizers.
    """
    causes: list[Cause] = []
    for side, held in holdings.items():
        if held is not None:
            trainable = [entry.path for entry in inventories[side].parameters() if entry.trainable]
            causes += _of_optimizer(side, held, trainable)
    return causes


def _of_optimizer(side: SideName, held: Holdings, trainable: Sequence[str]) -> list[Cause]:
    causes: list[Cause] = []
    twice = {path: n for path, n in held.listed.items() if n > 1}
    if twice:
        causes.append(
            _of(
                side,
                "parameter_listed_twice",
                ", ".join(twice),
                f"the optimizer of the {side} side lists {', '.join(twice)} more than once: every step updates it, "
                "decays it, and counts it in a clipped norm that many times",
                {"listed": twice},
                f"{side}: give the optimizer each parameter once: model.parameters() names a tied one once"
                if side == "torch"
                else "keras: build the optimizer with model.trainable_variables, which holds each variable once",
            )
        )
    if held.orphans:
        without = [path for path in trainable if path not in held.listed]
        shapes = ", ".join(map(str, held.orphans))
        summary = f"the optimizer of the {side} side holds {len(held.orphans)} parameters that the model does not "
        summary += f"(shape {shapes}): it was created before the tie"
        summary += f", and does not train {', '.join(without)}" if without else ""
        causes.append(
            _of(
                side,
                "optimizer_orphan",
                ", ".join(without) or f"(shape {shapes})",
                summary,
                {"orphans": [list(shape) for shape in held.orphans], "not_trained": without},
                f"{side}: tie first, then create the optimizer from the model's parameters",
            )
        )
    if held.hidden:
        names = list(held.hidden)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        causes.append(
            _of(
                side,
                "unregistered_parameters",
                shown,
                f"the {side} model uses {len(names)} tensors with gradients that are not registered as parameters "
                f"({shown}): the optimizer does not train them, and they are not saved",
                {"tensors": {name: list(shape) for name, shape in held.hidden.items()}},
                f"{side}: use torch.nn.ModuleList or ModuleDict for modules and ParameterList for tensors, instead "
                "of a plain list or dict",
            )
        )
    return causes


def _of(
    side: SideName,
    name: str,
    path: str,
    summary: str,
    evidence: dict[str, object],
    fix: str,
    phase: str = "inventory",
) -> Cause:
    torch, keras = (path, None) if side == "torch" else (None, path)
    return read_off(Cause(name, phase, torch, keras, summary, evidence, fix=fix))
