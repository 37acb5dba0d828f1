"""The outcome of a check, as frozen data, to and from plain dicts (`result.json`, schema version 1)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from ..errors import FileError
from .accepted import Accepted, Exchange
from .reproduction import Reproduction
from .schema import fault
from .writing import read_file, write_whole

SCHEMA_VERSION = 1
RESULTS = "xcheck run PAIR writes xcheck-results/NAME/result.json"
"""What to do without a result."""


def schema_text() -> str:
    """The JSON schema of `result.json`."""
    return Path(__file__).with_name("result.schema.json").read_text()


@cache
def _schema() -> Mapping[str, Any]:
    return json.loads(schema_text())


PHASES = (
    "inventory",
    "initialization",
    "sync",
    "forward",
    "loss",
    "gradient",
    "update",
    "state",
    "trajectory",
    "modes",
    "persistence",
    "export",
)
"""Every phase, in dataflow order."""


AT_ORDINARY = "at weights of ordinary size"
"""Start of the detail of each check of the step that starts from such weights."""

SCALED = "with each dropout multiplying its input by 1 + rate"
"""Start of the detail of each check of the step that is made so."""

LATER = "at a later step, where "
"""Start of the detail of each check of a step that counts were moved to."""

ON_MADE = "on the given batch "
"""Start of the detail of each check of a step on a batch that xcheck generated."""

TIED, APART = "tied", "apart"
"""How a side was built: one storage for all paths of a group, or several."""


class Verdict(StrEnum):
    """The outcome of one comparison, or of a whole run."""

    DIFFERENT = "DIFFERENT"
    INCONCLUSIVE = "INCONCLUSIVE"
    NUMERIC = "NUMERIC"
    EQUIVALENT = "EQUIVALENT"

    @staticmethod
    def worst(verdicts: Sequence[Verdict]) -> Verdict:
        """The worst of several; INCONCLUSIVE for none, since nothing was compared."""
        order = list(Verdict)
        return min(verdicts, key=order.index, default=Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of one quantity in one phase.

    Attributes:
        phase: one of `PHASES`.
        precision: "float64" or "float32"; None where nothing numeric was compared.
        step: training step, from 1; None outside the steps.
        name: the quantity, in the reference's words.
        torch, keras: its path on each side; None where a side has none.
        verdict: of this comparison.
        metric: the measure closest to its allowance, or furthest above it: "norm", "row" or "element".
        error, allowed: the value of that measure and its allowance for rounding, both relative to the scale of the
            quantity; None where nothing was measured or the value is not finite.
        required_tolerance: the smallest `t` with |keras - torch| <= t * (scale + |torch|) everywhere.
        worst_index: index of the worst element, in the reference's layout.
        detail: what a reader must know in addition to the numbers.
    """

    phase: str
    precision: str | None
    step: int | None
    name: str
    torch: str | None
    keras: str | None
    verdict: Verdict
    error: float | None = None
    allowed: float | None = None
    required_tolerance: float | None = None
    metric: str | None = None
    worst_index: tuple[int, ...] | None = None
    torch_value: float | None = None
    keras_value: float | None = None
    detail: str = ""

    @property
    def severity(self) -> float:
        """Error divided by allowance; infinite where a failure has no number."""
        if self.error is not None and self.allowed:
            return self.error / self.allowed
        return 0.0 if self.verdict is Verdict.EQUIVALENT else math.inf

    @property
    def at_ordinary(self) -> bool:
        """Whether the step started from weights of ordinary size instead of those of the training."""
        return self.detail.startswith(AT_ORDINARY)

    @property
    def further(self) -> str:
        """Where a step outside the training was made, as in "first difference in forward WHERE"; "" for others."""
        return self.detail.partition("; ")[0] if self.detail.startswith((AT_ORDINARY, LATER, ON_MADE, SCALED)) else ""

    @property
    def of_use(self) -> bool:
        """Whether it compares a single use of a parameter, or the sum of its uses, instead of the whole gradient."""
        return self.phase == "gradient" and (" via " in self.name or self.name.startswith("uses of "))


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place, in dataflow order, where the sides differ.

    Attributes:
        phase, precision, step, torch, keras: as in `Check`. Where the calls of both sides could be recorded, the paths
            are those of the first calls with equal inputs and different outputs.
        local_error, allowed: the difference there, and the allowance for rounding.
        name: of the quantity.
        agreed: the last value before it that agreed, in words.
    """

    phase: str
    precision: str | None
    step: int | None
    torch: str | None
    keras: str | None
    local_error: float | None
    allowed: float | None
    name: str = ""
    agreed: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """A named explanation of a difference; `confirmed` once a recomputation made the difference vanish.

    `code` has the file and line of each side, where known. Each of `edits` replaces the text `before` at a line of a
    file of the port by `after`; `constructs` says how many layers that call makes. `exchanges` remove the cause from a
    step; they exist only during a run.
    """

    id: str
    phase: str
    torch: str | None
    keras: str | None
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    confirmed: bool = False
    fix: str = ""
    code: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    edits: Sequence[Mapping[str, Any]] = ()
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False, compare=False)


Stages = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Stage -> side -> action -> state of the tie after it. The stages are "build", "sync", "step", "save", "export"."""


@dataclass(frozen=True, slots=True)
class Tie:
    """A group of parameter paths with a single storage on at least one side, or a single path used several times.

    Attributes:
        torch, keras: the paths of the group on each side.
        status: "same", "missing" (tied on the reference only), "extra" (tied on the other side only),
            "equal_but_untied" or "duplicated".
        uses: side -> in how many places a step uses it, where the side could distinguish them.
        stages: see `Stages`; without the stages that did not run.
    """

    torch: tuple[str, ...]
    keras: tuple[str, ...]
    status: str
    uses: Mapping[str, int] = field(default_factory=dict[str, int])
    stages: Stages = field(default_factory=dict[str, Mapping[str, Mapping[str, str]]])

    def paths(self, side: str) -> tuple[str, ...]:
        """The paths of the group on one side."""
        return self.torch if side == "torch" else self.keras

    def tied(self, side: str) -> bool:
        """Whether the side was built with one storage for all of them."""
        return TIED in self.stages.get("build", {}).get(side, {"": TIED}).values()


@dataclass(frozen=True, slots=True)
class ResultData:
    """All findings of a run, as data. Renderers read only this; `xcheck.Result` adds them.

    Attributes:
        pair: name of the pair.
        verdict: worst of the checks.
        expected: the verdict that the pair declares, for a negative control.
        seed, steps: as requested.
        environment: versions, devices and flags of this run.
        checks: every comparison, in dataflow order.
        first_divergence: see `Divergence`; None where nothing differs.
        coverage: how much of the two setups was compared.
        ties: tie groups, see `Tie`.
        timings: seconds per stage.
        notes: information that changes no verdict.
        failure: message of the error that ended the run early; None for a complete run.
        exports: contents of each ONNX file, and which constants hold the storages of its side.
        accepted: outcome of each difference that the user accepts.
        fingerprints: hashes of what a verdict rests on, each with a summary; see `pairs.fingerprints`.
        not_covered: what this run did not compare, a sentence each.
        next: the command to run next; "" where nothing is left to do.
        reproduction: of an unexplained difference; in separate files, not in `result.json`.
    """

    pair: str
    verdict: Verdict
    seed: int
    steps: int
    expected: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checks: tuple[Check, ...] = ()
    first_divergence: Divergence | None = None
    causes: tuple[Cause, ...] = ()
    coverage: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    ties: tuple[Tie, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()
    failure: str | None = None
    expectation: Mapping[str, Any] | None = None
    exports: tuple[Mapping[str, Any], ...] = ()
    accepted: tuple[Accepted, ...] = ()
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    not_covered: tuple[str, ...] = ()
    next: str = ""
    reproduction: Reproduction | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data as in `result.json`: no NaN, no infinity, no tuple."""
        data = _plain(asdict(replace(self, reproduction=None)))
        del data["reproduction"]
        for cause in data["causes"]:
            del cause["exchanges"]
        return {"schema_version": SCHEMA_VERSION, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            FileError: the schema version is not `SCHEMA_VERSION`, or a field is missing or unknown.
        """
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise FileError(
                "This result was written in a different format.",
                numbers=f"schema_version {version!r}, this xcheck reads {SCHEMA_VERSION}",
                todo="run the check again with this version of xcheck",
            )
        damage = fault(data, _schema())
        if damage is not None:
            raise FileError("This result is damaged.", cause=damage, todo="run the check again")
        body = {key: value for key, value in data.items() if key != "schema_version"}
        try:
            divergence = body.get("first_divergence")
            typed: dict[str, Any] = {
                "verdict": Verdict(body["verdict"]),
                "checks": tuple(_check_from(_mapping(c)) for c in body["checks"]),
                "first_divergence": Divergence(**_mapping(divergence)) if divergence else None,
                "causes": tuple(_cause_from(_mapping(c)) for c in body["causes"]),
                "ties": tuple(_tie_from(_mapping(t)) for t in body["ties"]),
                "notes": tuple(body.get("notes", ())),
                "not_covered": tuple(body.get("not_covered", ())),
                "exports": tuple(_mapping(e) for e in body.get("exports", ())),
                "accepted": tuple(_accepted_from(_mapping(a)) for a in body.get("accepted", ())),
            }
            return cls(**{**body, **typed})
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(
                "This result is damaged.", cause=f"{type(error).__name__}: {error}", todo=RESULTS
            ) from error

    def json_text(self) -> str:
        """The text of `result.json`."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_json(self, path: str | Path) -> Path:
        """Write `result.json` to `path`, making its folder; returns the path."""
        return write_whole(Path(path), self.json_text() + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a `result.json`.

        Raises:
            FileError: the file does not exist, or is not a result.
        """
        try:
            data = json.loads(read_file(Path(path)))
        except (OSError, ValueError, RecursionError) as error:
            raise FileError("This result cannot be read.", where=str(path), cause=str(error), todo=RESULTS) from error
        if not isinstance(data, dict):
            raise FileError("This file is not a result of xcheck.", where=str(path), todo=RESULTS)
        try:
            return cls.from_dict(cast(Mapping[str, Any], data))
        except FileError as error:
            error.parts["where"] = str(path)
            raise


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"a table was expected, not {value!r:.60}")
    return cast(Mapping[str, Any], value)


def _check_from(data: Mapping[str, Any]) -> Check:
    index = data.get("worst_index")
    typed: dict[str, Any] = {
        "verdict": Verdict(data["verdict"]),
        "worst_index": None if index is None else tuple(index),
    }
    return Check(**{**data, **typed})


def _cause_from(data: Mapping[str, Any]) -> Cause:
    fields: dict[str, Any] = {**data, "edits": tuple(data.get("edits", ()))}
    return Cause(**fields)


def _accepted_from(data: Mapping[str, Any]) -> Accepted:
    typed: dict[str, Any] = {"where": tuple(data["where"]), "not_judged": tuple(data["not_judged"])}
    return Accepted(**{**data, **typed})


def _tie_from(data: Mapping[str, Any]) -> Tie:
    sides = tuple(data["torch"]), tuple(data["keras"])
    return Tie(*sides, data["status"], data.get("uses", {}), data.get("stages", {}))


def _plain(value: Any) -> Any:
    if isinstance(value, Verdict):
        return value.value
    if isinstance(value, np.generic):
        return _plain(value.item())  # pyright: ignore[reportUnknownMemberType]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore
    return value
