"""Causes in the loss, where the outputs agree: another formula or setting, a factor, a penalty.

Both sides' numbers are made again from the outputs and targets that both have. Where each comes out as it was observed,
the settings in which the two differ are the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...matching import MatchPlan
from ...pairs.pair import Batch
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES
from ...records.trace import Array, StepRecord
from ..locate.loss.probe import Look
from ..prove import Trial, prove
from ..recomputed import REPRODUCED, reproduces
from ..update.clipping import rounded
from .readings import Reading, readings

LOSS_FACTOR = "loss_factor"
"""Id of the cause that is a factor, whatever the loss is."""

MOST = 2
"""Settings that may differ at once."""

WORDS: Mapping[str, tuple[str, str]] = {
    "loss": ("loss_formula", "the loss"),
    "output": ("from_logits", "the meaning of the output"),
    "clipping": ("clipped_probabilities", "the meaning of the output"),
    "smoothing": ("label_smoothing", "label smoothing"),
    "ignored": ("ignored_label", "the ignored label"),
    "reduction": ("reduction", "the reduction"),
    "width": ("huber_width", "the point where the loss becomes linear"),
    "gamma": ("focal_gamma", "the focal-loss gamma"),
    "alpha": ("focal_alpha", "the focal-loss alpha"),
    "of": ("swapped_arguments", "what is measured"),
    "pairs": ("broadcast_targets", "the order of the subtraction"),
}
"""Setting -> id of the cause, and what a report calls it."""

FIXES: Mapping[str, str] = {
    "loss": "use one loss on both sides",
    "output": "keras: from_logits={from_logits}, or torch: a loss that takes the same: cross_entropy and "
    "binary_cross_entropy_with_logits take logits, nll_loss logarithms, binary_cross_entropy probabilities",
    "clipping": "use logits on both sides, which are not clipped: keras: from_logits=True; torch: "
    "cross_entropy or binary_cross_entropy_with_logits",
    "smoothing": "keras: label_smoothing={torch}, or torch: label_smoothing={keras}",
    "ignored": "keras: ignore_class={torch}, or torch: ignore_index={keras}",
    "reduction": "keras: reduction='sum_over_batch_size' is PyTorch's 'mean' of what Keras has for each example, 'sum' "
    "its 'sum'; divide by the same count on both sides",
    "width": "keras: delta={torch}, or torch: delta (or beta)={keras}",
    "gamma": "keras: gamma={torch}, or torch: gamma={keras}",
    "alpha": "keras: alpha={torch}, with apply_class_balancing=True in BinaryFocalCrossentropy and without where it is "
    "None; or torch: alpha={keras}",
    "of": "keras.losses.KLDivergence takes (target, output), both probabilities; torch.nn.functional.kl_div takes (the "
    "logarithms of the output, target)",
    "pairs": "give outputs and targets one shape: targets[:, None], or outputs[:, 0]",
}


@isolated(list[Cause])
def loss_causes(
    plan: MatchPlan, batch: Batch, record: StepRecord, other: StepRecord, elsewhere: Look | None = None
) -> list[Cause]:
    """Why the loss differs, where the outputs do not.

    Args:
        plan: of the run.
        batch: of the step.
        record, other: the step of both sides.
        elsewhere: both sides' outputs and losses at other weights; without it a formula is no more than likely.
    """
    torch, keras = (record, other) if plan.reference == "torch" else (other, record)
    causes: list[Cause] = []
    for name, output, target in _terms(batch, torch, keras):
        values = torch.losses[name], keras.losses[name]
        if reproduces(*values):
            continue
        told, plain = _formulas(name, output, target, float(values[0]), float(values[1]), elsewhere)
        factor = [] if told and plain else _factor(plan, name, batch, torch, keras, elsewhere)
        causes += factor or told
    return causes


def _terms(batch: Batch, torch: StepRecord, keras: StepRecord) -> Iterator[tuple[str, Array, Array]]:
    """(name of a term, the output and the target it is made of)."""
    outputs, targets = torch.outputs, batch.targets
    if len(outputs) == 1 and isinstance(targets, np.ndarray):
        term = next((n for n in ("data", "total") if n in torch.losses and n in keras.losses), None)
        if term is not None:
            yield term, next(iter(outputs.values())), targets
    elif isinstance(targets, Mapping):
        for name, output in outputs.items():
            if f"data/{name}" in torch.losses and f"data/{name}" in keras.losses and name in targets:
                yield f"data/{name}", output, targets[name]


def _formulas(
    name: str, output: Array, target: Array, torch: float, keras: float, elsewhere: Look | None
) -> tuple[list[Cause], bool]:
    """What differs between two usual losses; and whether no plain factor would be said in fewer words."""
    if not torch or not keras:
        return [], False
    known = list(readings(output, target))
    sides = [[r for r in known if _is(r.value, value)] for value in (torch, keras)]
    pairs = [(a, b, _differing(a, b)) for a in sides[0] for b in sides[1]]
    if not pairs:
        return [], False
    pairs.sort(key=lambda pair: len(pair[2]))
    trials = [Trial(abs(torch - keras) / abs(torch), abs(pairs[0][0].value - torch) / abs(torch), REPRODUCED)]
    chosen = pairs[0]
    moved = None if elsewhere is None else _elsewhere(name, output, elsewhere)
    if elsewhere is not None and moved is not None:
        known = list(readings(moved, target))
        fitting = ((p, _at_other(p, known, elsewhere)) for p in pairs if len(p[2]) <= MOST)
        chosen, trial = next(((p, t) for p, t in fitting if t is not None and t.gone), (pairs[0], None))
        if trial is None:  # it was a coincidence
            return [], False
        trials.append(trial)
    one, two, differing = chosen
    if not 0 < len(differing) <= MOST:
        return [], False
    causes: list[Cause] = []
    reductions = {one.settings["reduction"], two.settings["reduction"]}
    plain = "loss" not in differing or reductions == {"mean"}
    for setting in differing:
        told = {side: r.settings.get(setting) for side, r in (("torch", one), ("keras", two))}
        shown = {side: value if isinstance(value, str) else repr(value) for side, value in told.items()}
        shown["from_logits"] = repr(not shown["torch"].startswith("probabilities"))  # a softmax of logarithms is itself
        clipped = setting == "output" and all(shown[side].startswith("probabilities") for side in told)
        key = "clipping" if clipped else setting
        cause, words = WORDS[key]
        causes.append(
            prove(
                Cause(
                    id=cause,
                    phase="loss",
                    torch=name,
                    keras=name,
                    summary=f"{one.settings['loss']}: {words} is {shown['torch']} in torch and {shown['keras']} in "
                    "keras",
                    evidence={
                        "torch": torch,
                        "torch_made_again": one.value,
                        "keras": keras,
                        "keras_made_again": two.value,
                    },
                    fix=FIXES[key].format(**shown),
                ),
                trials,
            )
        )
    return causes, plain


def _elsewhere(name: str, output: Array, elsewhere: Look) -> Array | None:
    """The output of a term at other weights; None where it is not known which it is."""
    if elsewhere.output is not None:
        moved = elsewhere.output
    else:
        moved = elsewhere.outputs["keras"].get(name.removeprefix("data/"))
    return moved if moved is not None and moved.shape == output.shape else None


def _at_other(pair: tuple[Reading, Reading, list[str]], known: Sequence[Reading], elsewhere: Look) -> Trial | None:
    """What two readings leave of the difference at other weights."""
    found = [next((r.value for r in known if r.settings == one.settings), None) for one in pair[:2]]
    torch, keras = elsewhere.values["torch"], elsewhere.values["keras"]
    if found[0] is None or found[1] is None or not torch:
        return None
    return Trial(abs(torch - keras) / abs(torch), abs((keras - torch) - (found[1] - found[0])) / abs(torch), REPRODUCED)


def _is(value: float, observed: float) -> bool:
    return abs(value - observed) <= REPRODUCED * abs(observed)


def _differing(one: Reading, two: Reading) -> list[str]:
    names = dict.fromkeys([*one.settings, *two.settings])
    if one.settings["loss"] != two.settings["loss"]:  # of two losses, the settings that one alone has say nothing
        names = {name: None for name in names if name in one.settings and name in two.settings}
    return [name for name in names if one.settings.get(name) != two.settings.get(name)]


def _factor(
    plan: MatchPlan, name: str, batch: Batch, torch: StepRecord, keras: StepRecord, elsewhere: Look | None
) -> list[Cause]:
    """A loss that is the other's times a number, in every gradient too."""
    value, other = float(torch.losses[name]), float(keras.losses[name])
    if (
        not value
        or not other
        or "/" in name
        or any(r.losses.get("penalty", np.zeros(())).any() for r in (torch, keras))
    ):
        return []
    factor = other / value
    for match in plan.trained:
        mine, theirs = match.torch_piece.total(torch.gradients.get), match.keras_piece.total(keras.gradients.get)
        if mine is None or theirs is None or theirs.shape != match.keras_piece.shape:
            return []
        if mine.any() and not reproduces(match.to("torch", theirs), factor * mine):
            return []
    shown = _number(factor, batch, torch)
    if shown is None:
        return []
    values = (
        [(value, other)] if elsewhere is None else [(value, other), tuple(elsewhere.values[side] for side in SIDES)]
    )
    numbers = sum(match.keras_piece.total(keras.gradients.get) is not None for match in plan.trained)
    trials = [Trial(abs(a - b) / abs(a), abs(factor * a - b) / abs(b), REPRODUCED, numbers) for a, b in values]
    return [
        prove(
            Cause(
                id=LOSS_FACTOR,
                phase="loss",
                torch=name,
                keras=name,
                summary=f"the loss of the keras side is that of the torch side times {shown}, and so is each gradient",
                evidence={"torch": value, "keras": other, "factor": factor, "gradients": len(plan.trained)},
                fix=f"keras: loss / {shown.split(',')[0]}, or torch: loss * {shown.split(',')[0]}",
            ),
            trials,
        )
    ]


def _number(factor: float, batch: Batch, torch: StepRecord) -> str | None:
    """A factor in words; None where it is no number that somebody would write or count."""
    counts: dict[str, int] = {"the number of examples": batch.size}
    for output in torch.outputs.values():
        counts |= {f"the size of axis {i} of the output": n for i, n in enumerate(output.shape) if i and n > 1}
        counts["the number of elements of the output"] = output.size
    for words, n in counts.items():
        if _is(factor, n):
            return f"{n}, {words}"
        if _is(factor, 1 / n):
            return f"1 / {n}, {words}"
    short, turned = rounded(factor), rounded(1 / factor)
    if short is not None:
        return f"{short:g}"
    return None if turned is None else f"1 / {turned:g}"
