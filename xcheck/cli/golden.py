"""Golden traces: record the reference once, check the other side without the reference's framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..check import both_open
from ..errors import BatchError, FileError, PairError
from ..frameworks.canary import refuse_broken
from ..frameworks.sides import Device, Progress, Sides, canaries, choose_backend, choose_device, silent
from ..pairs.batches import batches_of
from ..pairs.pair import Pair
from ..phases import AVAILABLE, ON_REQUEST
from ..phases.begin import EVERY, begin, validate
from ..phases.canaries import skip_broken
from ..phases.pace import Pace
from ..phases.ties.storage import probed
from ..records.inventory import Entry, Holdings, Inventory
from ..records.sides import other_side
from ..records.trace import RECORD_AGAIN, Trace
from ..report.result import Result
from ..stepping.lockstep import ReferenceStep, reference_steps
from ..stepping.reference import Reference

_HEADER = {"pair", "side", "precision", "seed", "environment", "inventory", "batches", "repeatable", "unmapped_slots"}
SEMANTIC = tuple(phase for phase in AVAILABLE if phase not in ("trajectory", *ON_REQUEST))
"""The phases that a trace can verify: those with re-synced steps."""


def record(
    pair: Pair,
    *,
    steps: int = 5,
    seed: int = 0,
    device: Device = "auto",
    progress: Progress = silent,
) -> Trace:
    """Train only the pair's reference and record its steps and the effect of rounding errors on them.

    Args:
        pair, steps, seed, device, progress: as for `check`.

    Raises:
        BadInput: an input of the user is invalid.
    """
    findings = begin(pair, seed, steps, AVAILABLE)
    validate(steps, seed, ("float64",))
    refuse_broken(canaries(pair, pair.reference))
    with Sides(findings, choose_device(pair, device, pair.reference), progress).open(pair.reference) as runner:
        inventory = _numbered(probed(runner))
        recorded_steps = list(reference_steps(runner, batches_of(pair, seed, steps), precision="float64", seed=seed))
        header = {
            "pair": pair.name,
            "side": pair.reference,
            "precision": "float64",
            "seed": seed,
            "environment": findings.environment,
            "inventory": [asdict(entry) for entry in inventory.entries],
            "batches": [step.batch.digest() for step in recorded_steps],
            "repeatable": [step.repeatable for step in recorded_steps],
            "unmapped_slots": runner.unmapped_slots(),
            "holdings": asdict(holdings) if (holdings := runner.holdings()) else None,
        }
    return Trace(header, tuple(step.record for step in recorded_steps), tuple(step.twins for step in recorded_steps))


def verify(
    pair: Pair,
    trace: Trace,
    *,
    device: Device = "auto",
    keras_backend: str | None = None,
    phases: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Result:
    """Check the other side of a pair against a recorded trace of its reference.

    Args:
        pair: to check; its reference is not built, and its framework need not be installed.
        trace: made by `record`.
        device, keras_backend, phases, progress: as for `check`.

    Raises:
        BadInput: the trace belongs to a different pair, or the pair's batches differ from those of the trace; or a
            requested phase cannot be verified from a recording.
    """
    header = trace.header
    missing = sorted(_HEADER - set(header))
    if missing or not trace.steps:
        lacking = ", ".join(missing) or "every step"
        raise FileError("This trace is damaged.", cause=f"its header lacks {lacking}", todo=RECORD_AGAIN)
    entries = _entries(header)
    phases = SEMANTIC if phases is None or EVERY in phases else phases
    unavailable = [phase for phase in phases if phase in AVAILABLE and phase not in SEMANTIC]
    if unavailable:
        raise PairError(
            f"A recorded trace does not cover the phase {unavailable[0]!r}.",
            numbers=f"it covers: {', '.join(SEMANTIC)}",
            todo="where both frameworks are installed: xcheck run PAIR --phases ...",
        )
    findings = begin(pair, int(header["seed"]), len(trace.steps), phases)
    findings.pace = Pace(show=progress)
    findings.notes.append("verified against a recorded trace: float32 and the free run are not covered")
    findings.environment[pair.reference] = {"recorded": True, **header["environment"].get(pair.reference, {})}
    with findings.reporting():
        if (header["pair"], header["side"]) != (pair.name, pair.reference):
            raise FileError(
                "This trace was recorded from a different pair or side.",
                numbers=f"recorded: {header['side']} side of {header['pair']!r}; needed: {pair.reference} side of "
                f"{pair.name!r}",
            )
        choose_backend(pair, keras_backend)
        follower_side = other_side(pair.reference)
        if not skip_broken(findings, canaries(pair, follower_side)):
            return findings.result()
        with Sides(findings, choose_device(pair, device, follower_side), progress).open(follower_side) as follower:
            reference = Reference(
                Inventory(entries),
                trace.steps[0].before,
                _recorded(pair, trace),
                lambda: list(header["unmapped_slots"]),
                {},
                holdings=_holdings(header.get("holdings")),
            )
            both_open(findings, reference, follower, progress)
    return findings.result()


def _entries(header: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The parameters and buffers that a header lists.

    Raises:
        FileError: the header has a different structure.
    """
    try:
        if not isinstance(header["environment"], Mapping) or int(header["seed"]) < 0:
            raise TypeError("environment or seed")
        for listed in (header["batches"], header["repeatable"], header["unmapped_slots"]):
            if not isinstance(listed, list):
                raise TypeError(f"{listed!r:.80} is not a list")
        _holdings(header.get("holdings"))
        return tuple(replace(Entry(**entry), shape=tuple(entry["shape"])) for entry in header["inventory"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        told = f"{type(error).__name__}: {error}"
        raise FileError("This trace is damaged.", cause=told, todo=RECORD_AGAIN) from error


def _recorded(pair: Pair, trace: Trace) -> Iterator[ReferenceStep]:
    batches = batches_of(pair, int(trace.header["seed"]), len(trace.steps))
    digests: Sequence[str] = trace.header["batches"]
    repeatable: Sequence[bool] = trace.header["repeatable"]
    for batch, record, twins, digest, repeats_exactly in zip(
        batches, trace.steps, trace.twins, digests, repeatable, strict=True
    ):
        if batch.digest() != digest:
            raise BatchError(
                "The batches of this pair differ from those of the trace.",
                where=f"step {record.step}",
                cause="the data, or the library that reads or shuffles it, is different on this machine",
                todo="record the trace again, or make `batches` depend only on its seed",
            )
        yield ReferenceStep(batch, record, twins, repeats_exactly)


def _holdings(recorded: Mapping[str, Any] | None) -> Holdings | None:
    if recorded is None:
        return None
    return Holdings(recorded["listed"], tuple(tuple(shape) for shape in recorded["orphans"]))


def _numbered(inventory: Inventory) -> Inventory:
    """Replace identities by numbers that remain valid after the process ends."""
    identities = {e.identity: i for i, e in enumerate(inventory.canonical())}
    storages = {s: i for i, s in enumerate(dict.fromkeys(e.storage for e in inventory.entries))}
    numbered = (replace(e, identity=identities[e.identity], storage=storages[e.storage]) for e in inventory.entries)
    return Inventory(tuple(numbered))
