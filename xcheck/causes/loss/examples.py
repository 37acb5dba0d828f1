"""Causes in a loss, from the losses of single examples: how they are joined, and by what each of them is divided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pairs.pair import Batch
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import Array
from ..prove import Trial, prove
from ..recomputed import REPRODUCED
from ..update.clipping import rounded


@dataclass(frozen=True, slots=True)
class Examples:
    """The losses of a batch on one input.

    Attributes:
        each: side -> of each example by itself.
        whole: side -> of all of them.
    """

    each: Mapping[SideName, Array]
    whole: Mapping[SideName, float]

    def joined(self, side: SideName) -> str:
        """How the losses of the examples make that of the batch: "mean", "sum", or "" where they do not."""
        each, whole = self.each[side], self.whole[side]
        for name, value in (("mean", float(each.mean())), ("sum", float(each.sum()))):
            if _close(value, whole):
                return name
        return ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What may differ between two losses.

    Attributes:
        id, summary, fix: of the cause; the same on every input, where it is the cause.
        again: the loss of the Keras side, made of PyTorch's losses of the examples (or the other way).
        of: the side whose loss that is.
        numbers: that are compared, less those that were solved from them.
    """

    id: str
    summary: str
    fix: str
    again: float
    of: SideName
    numbers: int


@isolated(list[Cause])
def example_causes(name: str, batch: Batch, inputs: Sequence[Examples]) -> list[Cause]:
    """Why two losses of the same outputs differ, as far as the losses of single examples tell.

    Args:
        name: of the loss.
        batch: with whose numbers a factor of each example is compared.
        inputs: the losses on several outputs, the first those of the step.
    """
    for proposal in _proposals(inputs[0], batch):
        trials = [_trial(inputs[0], proposal)]
        for other in inputs[1:]:
            same = (p for p in _proposals(other, batch) if (p.id, p.summary) == (proposal.id, proposal.summary))
            again = next(same, None)
            if again is None:
                break
            trials.append(_trial(other, again))
        else:
            cause = Cause(proposal.id, "loss", name, name, proposal.summary, {}, fix=proposal.fix)
            made = prove(cause, trials)
            if made.confirmed:
                return [made]
    return []


def _trial(found: Examples, proposal: Proposal) -> Trial:
    torch, keras = found.whole["torch"], found.whole["keras"]
    wanted = found.whole[proposal.of]
    return Trial(
        abs(torch - keras) / abs(torch), abs(proposal.again - wanted) / abs(wanted), REPRODUCED, proposal.numbers
    )


def _proposals(found: Examples, batch: Batch) -> Iterator[Proposal]:
    torch, keras = found.each["torch"], found.each["keras"]
    if not torch.all() or np.ptp(torch) <= REPRODUCED * np.abs(torch).max():
        return
    joined: dict[SideName, str] = {side: found.joined(side) for side in SIDES}
    scale = np.abs(torch).max()
    if np.abs(torch - keras).max() <= REPRODUCED * scale:
        yield from _otherwise_joined(found, joined)
    elif joined["torch"] and joined["keras"]:
        yield from _factors(found, joined["keras"], batch)
        yield from _offset(found, joined["keras"])


def _otherwise_joined(found: Examples, joined: Mapping[SideName, str]) -> Iterator[Proposal]:
    n = len(found.each["torch"])
    if joined["torch"] and joined["keras"] and joined["torch"] != joined["keras"]:
        times = f"{n} times" if joined["keras"] == "sum" else f"1 / {n} of"
        again = float(found.each["torch"].sum() if joined["keras"] == "sum" else found.each["torch"].mean())
        yield Proposal(
            "reduction",
            f"the losses of the {n} examples are reduced by {joined['torch']} in torch and by {joined['keras']} in "
            f"keras, which is {times} it",
            f"keras: reduction='{'sum_over_batch_size' if joined['torch'] == 'mean' else 'sum'}', or torch: "
            f"reduction='{joined['keras']}'",
            again,
            "keras",
            n,
        )
    for side in SIDES:
        other = other_side(side)
        if joined[side] and not joined[other]:
            again = float(found.each[other].mean() if joined[side] == "mean" else found.each[other].sum())
            whole = {
                "torch": f"reduce over all axes at once, x.sum() for x.sum((1, 2, ...)) and .{joined[side]}()",
                "keras": "reduce over all axes at once, keras.ops.sum(x) for keras.ops.sum(x, axis=(1, 2, ...))",
            }
            each = {
                "torch": f"one loss for each example, x.sum((1, 2, ...)), and then .{joined[side]}()",
                "keras": "one loss for each example, keras.ops.sum(x, axis=(1, 2, ...)), and then keras.ops."
                f"{joined[side]}",
            }
            yield Proposal(
                "reduction",
                f"for a single example both losses agree; {side} takes the {joined[side]} of the losses of the {n} "
                f"examples, {other} computes one loss of the whole batch",
                f"{other}: {each[other]}; or {side}: {whole[side]}",
                again,
                side,
                n,
            )


def _factors(found: Examples, joined: str, batch: Batch) -> Iterator[Proposal]:
    """Losses that are each other's times a number that the batch holds for each example."""
    torch, keras = found.each["torch"], found.each["keras"]
    ratio = keras / torch
    if np.ptp(ratio) <= REPRODUCED * np.abs(ratio).max():
        return
    for words, code, count in _counts(batch):
        if np.ptp(count) == 0 or not count.all():
            continue
        for side, factor in (("torch", ratio / count), ("keras", ratio * count)):
            number = _number(float(factor[0]), float(count.mean()) if side == "torch" else 1 / float(count.mean()))
            if np.ptp(factor) > REPRODUCED * np.abs(factor).max() or number is None:
                continue
            made = torch * (count if side == "torch" else 1 / count) * number[0]
            again = float(made.mean() if joined == "mean" else made.sum())
            other = other_side("torch" if side == "torch" else "keras")
            times = "" if not number[1] else f", and {number[1]}"
            yield Proposal(
                "reduction",
                f"the {side} side divides the loss of each example by {words} ({count.min():g} to {count.max():g})"
                f"{times}; the {other} side does not",
                f"{other}: divide the loss of each example by {code}, or {side}: multiply it by that, before the "
                "losses of the examples are reduced",
                again,
                "keras",
                len(torch) - 1,
            )


def _number(factor: float, mean: float) -> tuple[float, str] | None:
    """A factor beside the count as (number, words); None where it is none that somebody writes."""
    if abs(factor - 1) <= REPRODUCED:
        return 1.0, ""
    if abs(factor * mean - 1) <= REPRODUCED:
        return factor, "that by its mean over the batch"
    short = rounded(factor) or (1 / turned if (turned := rounded(1 / factor)) else None)
    return None if short is None else (short, f"the keras loss is {short:g} times that")


def _counts(batch: Batch) -> Iterator[tuple[str, str, Array]]:
    """(words, code, a number for each example) of what a batch holds."""
    for part, value in (("targets", batch.targets), ("inputs", batch.inputs)):
        for name, array in _named(value):
            where = f"{part}[{name!r}]" if name else part
            flat = array.reshape(len(array), -1)
            if flat.shape[1] == 1 and array.dtype.kind in "iuf":
                yield f"{where}", where, flat[:, 0].astype(np.float64)
            elif array.dtype.kind in "iub" or bool((flat == np.round(flat)).all()):
                axes = tuple(range(1, array.ndim))
                yield (
                    f"the number of its {where} that are not 0",
                    f"count_nonzero({where}, {axes})",
                    np.count_nonzero(flat, axis=1).astype(np.float64),
                )
                yield (
                    f"the number of its {where} that are not below 0",
                    f"sum({where} >= 0, {axes})",
                    (flat >= 0).sum(axis=1).astype(np.float64),
                )
            if flat.shape[1] > 1 and array.dtype.kind in "iuf":
                yield f"the sum of its {where}", f"sum({where}, {tuple(range(1, array.ndim))})", flat.sum(axis=1)


def _named(value: Any) -> list[tuple[str, Array]]:
    if isinstance(value, Mapping):
        return [(str(name), array) for name, array in value.items()]  # pyright: ignore
    return [] if value is None else [("", value)]


def _offset(found: Examples, joined: str) -> Iterator[Proposal]:
    """Losses that are a constant apart for every example."""
    torch, keras = found.each["torch"], found.each["keras"]
    apart = keras - torch
    scale = float(np.abs(torch).max())
    if np.ptp(apart) > REPRODUCED * scale or len(torch) < 3:
        return
    number = float(apart.mean())
    digits = f"{number:.9g}"
    made = torch + number
    yield Proposal(
        "constant_offset",
        f"the loss of each example is {digits} more in keras than in torch",
        f"keras: subtract {digits} from the loss, or torch: add it; no gradient depends on it",
        float(made.mean() if joined == "mean" else made.sum()),
        "keras",
        len(torch) - 1,
    )


def _close(value: float, other: float) -> bool:
    return abs(value - other) <= REPRODUCED * abs(other)
