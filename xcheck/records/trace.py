"""The steps of a side as NumPy arrays keyed by (step, phase, name); on disk as one safetensors file.

A `StepRecord` holds one training step with the names and layouts of its side: the initial state, the computed
values, the final state. Comparison uses only records, so a record from elsewhere or from disk is as good as a live
one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from ..errors import FileError

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]
Groups = tuple[tuple[str, ...], ...]
"""Groups of paths."""

TRACE_VERSION = 1
RECORD_AGAIN = "record it again: xcheck record PAIR --side torch --out TRACE"
"""What to do with a trace that cannot be used."""

DROPOUT_RATES = "dropout rates"
"""Setting of a step: the dropout rates of its training pass."""

DROPOUT_NOISE = "random numbers of dropout"
"""Setting of a step: (numbers, numbers per element) that each dropout of its training pass would have drawn, in rows
by rate; absent if one of them is not known."""

AT_INFERENCE = "dropout rates at inference"
"""Setting of a step: the dropout rates of its pass in inference mode."""

OF_DROPOUT = (DROPOUT_RATES, DROPOUT_NOISE, AT_INFERENCE)
"""The settings that represent dropout, since it is off."""

_SEPARATOR = "|"  # never part of a parameter path in either framework


class Key(NamedTuple):
    """Where an array of a trace belongs."""

    step: int
    phase: str
    name: str


def _empty() -> dict[str, Array]:
    return {}


@dataclass(frozen=True, slots=True)
class State:
    """The full state before or after a training step.

    Attributes:
        parameters: path -> value, one entry per storage.
        buffers: path -> value, saved with the model but not trained.
        slots: path -> slot role -> value, the optimizer's state per parameter, in canonical units
            (see `slots.py`).
        updates: how many updates the optimizer has made.
        ties: the groups of several paths that share storage.
        guessed: an optimizer is neither the framework's nor xcheck's, so the roles of its slots are guessed from their
            names.
    """

    parameters: Arrays = field(default_factory=_empty)
    buffers: Arrays = field(default_factory=_empty)
    slots: Mapping[str, Arrays] = field(default_factory=dict[str, Arrays])
    updates: int = 0
    ties: Groups = ()
    guessed: bool = False

    def values(self) -> Arrays:
        """Parameters and buffers together; a parameter of one side may be a buffer of the other."""
        return {**self.parameters, **self.buffers}

    def value(self, path: str) -> Array:
        """A parameter or buffer.

        Raises:
            KeyError: there is no parameter or buffer at this path.
        """
        return self.parameters[path] if path in self.parameters else self.buffers[path]


def total_of(losses: Arrays) -> Array | None:
    """The total loss; if a user-defined step names none, the sum of its return values, which may not be a loss."""
    if "total" in losses or not losses:
        return losses.get("total")
    return np.sum([np.asarray(value, np.float64) for value in losses.values()], axis=0)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One training step of one side.

    Attributes:
        step: from 1.
        before, after: the states before and after the step.
        inference: outputs by name before the step, in inference mode.
        outputs: outputs by name during the step, in training mode.
        losses: "data" and "penalty", their sum "total", and named terms as "data/<name>", "penalty/<name>";
            scalars.
        settings: compared in addition to the arrays of the model: `DROPOUT_RATES`, `DROPOUT_NOISE`
            and `AT_INFERENCE`, sorted.
        gradients: path -> gradient of the total loss after backpropagation, before any clipping; None if the
            framework gave none.
        uses: path -> use -> gradient through this use only, in the order of the forward pass; for parameters that are
            tied or used several times. Recorded in the first step, see `uses.py`.
        draws: functions that drew random numbers although dropout was off, as "layer: function"; not saved.
        passes: how often the step called the model; None where it was not watched. Not saved.
        engaged: outputs and settings of the passes with gradients only; None if all passes have some. Not saved.
    """

    step: int
    before: State
    after: State
    inference: Arrays = field(default_factory=_empty)
    outputs: Arrays = field(default_factory=_empty)
    losses: Arrays = field(default_factory=_empty)
    settings: Arrays = field(default_factory=_empty)
    gradients: Mapping[str, Array | None] = field(default_factory=dict[str, Array | None])
    uses: Mapping[str, Arrays] = field(default_factory=dict[str, Arrays])
    draws: tuple[str, ...] = ()
    passes: int | None = None
    engaged: tuple[Arrays, Arrays] | None = None

    def with_gradients_only(self) -> StepRecord:
        """This record without passes from which nothing is differentiated, such as those for a log."""
        return self if self.engaged is None else replace(self, outputs=self.engaged[0], settings=self.engaged[1])

    def update(self, path: str) -> Array | None:
        """The change of a parameter or buffer; None if there is none at this path."""
        after = self.after.values().get(path)
        return None if after is None else after - self.before.value(path)

    def updates(self) -> dict[str, Array]:
        """Path -> change of the parameter."""
        return {p: new - self.before.parameters[p] for p, new in self.after.parameters.items()}

    def items(self) -> Iterator[tuple[Key, Array]]:
        """Every array of the record with its key, except missing gradients."""
        groups: list[tuple[str, Mapping[str, Array | None]]] = [
            ("inference", self.inference),
            ("outputs", self.outputs),
            ("losses", self.losses),
            ("settings", self.settings),
            ("gradients", self.gradients),
        ]
        for prefix, state in (("before", self.before), ("after", self.after)):
            groups += [(f"{prefix}.parameters", state.parameters), (f"{prefix}.buffers", state.buffers)]
            groups += [(f"{prefix}.slots.{role}", group) for role, group in _inverted(state.slots).items()]
        groups += [(f"uses.{use}", group) for use, group in _inverted(self.uses).items()]
        for phase, group in groups:
            for name, array in group.items():
                if array is not None:
                    yield Key(self.step, phase, name), array


def differing_groups(record: StepRecord, other: StepRecord) -> list[str]:
    """The groups that differ between two records of one step, named as in `StepRecord.items`."""
    one, two = dict(record.items()), dict(other.items())
    groups = {
        key.phase
        for key in one.keys() | two.keys()
        if key not in one or key not in two or not _same(one[key], two[key])
    }
    return sorted(groups)


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")


def _inverted(table: Mapping[str, Arrays]) -> dict[str, dict[str, Array]]:
    """Turn path -> name -> array into name -> path -> array."""
    inverted: dict[str, dict[str, Array]] = {}
    for path, by_name in table.items():
        for name, array in by_name.items():
            inverted.setdefault(name, {})[path] = array
    return inverted


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps of one side and their circumstances.

    Attributes:
        header: plain JSON data: pair, side, precision, seed, environment, and additions of the caller.
        steps: in order.
        twins: for each step, the same step from perturbed starts, to measure the noise.
    """

    header: Mapping[str, Any]
    steps: tuple[StepRecord, ...]
    twins: tuple[tuple[StepRecord, ...], ...] = ()

    def save(self, path: str | Path) -> Path:
        """Write the trace to `path`, making its folder; returns the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Array] = {}
        entries: list[dict[str, Any]] = []
        runs = [(0, record) for record in self.steps]
        runs += [(i, twin) for twins in self.twins for i, twin in enumerate(twins, 1)]
        for run, record in runs:
            arrays |= {_join(run, key): np.asarray(array, order="C") for key, array in record.items()}
            entries.append(
                {
                    "run": run,
                    "step": record.step,
                    "updates": [record.before.updates, record.after.updates],
                    "missing_gradients": [name for name, g in record.gradients.items() if g is None],
                    "ties": [record.before.ties, record.after.ties],
                    "guessed": [record.before.guessed, record.after.guessed],
                    "uses": {path: list(uses) for path, uses in record.uses.items()},
                }
            )
        header = {
            **self.header,
            "trace_version": TRACE_VERSION,
            "records": entries,
        }
        text = json.dumps(header)
        save_file(arrays, path, metadata={"xcheck": text, "sha256": _digest(text, arrays)})
        return path

    @staticmethod
    def load(path: str | Path) -> Trace:
        """Read a trace; nothing in the file is executed.

        Raises:
            FileError: the file is missing, damaged, or not a trace of this version.
        """
        if not Path(path).is_file():
            raise FileError("The trace does not exist.", where=str(path), todo="xcheck record PAIR --out TRACE")
        try:
            opened: Any = safe_open(path, framework="numpy")
            with opened as file:
                text, written = file.metadata()["xcheck"], file.metadata().get("sha256")
                loaded: Any = json.loads(text)
                arrays: dict[str, Array] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if not isinstance(loaded, dict) or written not in (None, _digest(text, arrays)):
                raise ValueError("its contents have changed since it was written")
            header = cast(dict[str, Any], loaded)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FileError(
                "This trace cannot be read.",
                where=str(path),
                cause=f"it is damaged or was not written by xcheck ({type(error).__name__}: {error})",
                todo=RECORD_AGAIN,
            ) from error
        if header.pop("trace_version", None) != TRACE_VERSION:
            raise FileError(
                "This trace was written by a different version of xcheck.", where=str(path), todo=RECORD_AGAIN
            )
        try:
            records = [(entry["run"], _record(entry, arrays)) for entry in header.pop("records")]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                "This trace is damaged.",
                where=str(path),
                cause=repr(error),
                todo=RECORD_AGAIN,
            ) from error
        steps = tuple(record for run, record in records if run == 0)
        twins = tuple(tuple(t for run, t in records if run and t.step == record.step) for record in steps)
        return Trace(header, steps, twins)


def _digest(header: str, arrays: Arrays) -> str:
    """A digest of the whole content of a file, which detects any damage."""
    digest = hashlib.sha256(header.encode())
    for key in sorted(arrays):
        array = arrays[key]
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _join(run: int, key: Key) -> str:
    return _SEPARATOR.join((str(run), str(key.step), key.phase, key.name))


def _record(entry: Mapping[str, Any], arrays: Arrays) -> StepRecord:
    start = _join(entry["run"], Key(entry["step"], "", "")).removesuffix(_SEPARATOR)
    groups: dict[str, dict[str, Array]] = {}
    for joined, array in arrays.items():
        if joined.startswith(start):
            phase, name = joined.removeprefix(start).split(_SEPARATOR, 1)
            groups.setdefault(phase, {})[name] = array

    def state(prefix: str, updates: int, ties: Sequence[Sequence[str]], guessed: bool) -> State:
        slots: dict[str, dict[str, Array]] = {}
        for phase, group in groups.items():
            if phase.startswith(f"{prefix}.slots."):
                role = phase.removeprefix(f"{prefix}.slots.")
                for path, array in group.items():
                    slots.setdefault(path, {})[role] = array
        parameters, buffers = groups.get(f"{prefix}.parameters", {}), groups.get(f"{prefix}.buffers", {})
        return State(parameters, buffers, slots, updates, tuple(tuple(group) for group in ties), guessed)

    (before, after), (tied_before, tied_after) = entry["updates"], entry.get("ties", ((), ()))
    guessed_around = entry.get("guessed", (False, False))
    gradients: dict[str, Array | None] = {**groups.get("gradients", {})}
    gradients |= dict.fromkeys(entry["missing_gradients"])
    return StepRecord(
        entry["step"],
        state("before", before, tied_before, guessed_around[0]),
        state("after", after, tied_after, guessed_around[1]),
        groups.get("inference", {}),
        groups.get("outputs", {}),
        groups.get("losses", {}),
        groups.get("settings", {}),
        gradients,
        {path: {use: groups[f"uses.{use}"][path] for use in uses} for path, uses in entry.get("uses", {}).items()},
    )
