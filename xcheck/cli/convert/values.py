"""The tensors of the target file: each is computed from the source through the plan, and converted back as proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError
from ...frameworks.checkpoints import FLOATS, Stored
from ...frameworks.protocol import Runner
from ...matching import Match, MatchPlan
from ...records.sides import SideName
from ...records.trace import Array, State
from .fitting import Fit

COMPUTED = "computed by its layer"


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor of a written file.

    Attributes:
        key: in the file.
        path: of the parameter or buffer.
        source: the paths it was computed from, as a weight map writes them; "" if the value is from building the model,
            `COMPUTED` if its layer computes it from others when saved.
        layout: names of the layouts between the two; "" if there is no source.
        shape, dtype: of the tensor.
        rounded: largest relative error of its elements against the exact value; 0 where it is exact.
    """

    key: str
    path: str
    source: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    rounded: float = 0.0


class Values:
    """The values of the tensors to write, made one at a time.

    Args:
        plan: from the side of the source to the other.
        stored: the source.
        fitted: the parameter of each of its tensors.
        runners: both sides, in float64.
        dtype: float type to write; None keeps the type of each tensor.

    Attributes:
        held: the commonest float type of the source.
        usual: the float type to write for tensors that are not in the source.
        built: the target's side in the float type of the file, before anything is loaded.
        constant: buffers of the source whose values every new model has.
        inexact: canonical path of the target -> largest relative error, for values that cannot be written exactly.
    """

    def __init__(
        self, plan: MatchPlan, stored: Stored, fitted: Fit, runners: Mapping[SideName, Runner], dtype: str | None
    ) -> None:
        self.plan, self.stored, self.fitted, self.dtype = plan, stored, fitted, dtype
        self.source, self.target = runners[plan.reference], runners[plan.follower]
        self.unloaded, self.own = self.target.read(), self.source.read()
        self.built = self.unloaded
        sizes: dict[str, int] = dict.fromkeys(FLOATS, 0)
        for key, name in stored.dtypes.items():
            sizes[name] = sizes.get(name, 0) + int(np.prod(stored.shapes[key]))
        self.held = max(FLOATS, key=lambda name: (sizes[name], name == "float32"))
        self.usual = dtype or self.held
        self.inexact: dict[str, float] = {}
        self.constant: set[str] = set()

    def get(self, path: str) -> Array:
        """A tensor of the source, in its own float type; if it is not in the file, the value of the built model.

        Raises:
            FileError: a tied tensor is stored several times, with different values.
        """
        keys = self.fitted.keys.get(path)
        if not keys:
            return self.own.value(path)
        array = self.stored.get(keys[0])
        for key in keys[1:]:
            if array.tobytes() != self.stored.get(key).tobytes():
                raise FileError(
                    "The checkpoint stores different values for a weight that the model ties.",
                    where=f"{keys[0]}, {key}",
                    cause="the model that saved it did not tie them",
                    todo="untie them in build, on both sides, or save the checkpoint from the tied model",
                )
        return array

    def matches(self, path: str) -> tuple[Match, ...]:
        """The matches that give the value of the target's tensor at a path."""
        return tuple(m for m in self.plan.matches if path in m.piece(self.plan.follower).paths)

    def value(self, path: str) -> Array | None:
        """A tensor of the target; None if nothing in the source corresponds to it."""
        matches = self.matches(path)
        if not matches:
            return None
        arrays = {p: self.get(p) for m in matches for p in m.piece(self.plan.reference).paths}
        held = {str(array.dtype) for p, array in arrays.items() if p in self.fitted.keys}
        name = _common(held) if held else self.usual
        if not all(map(is_exact, matches)) or len({array.dtype for array in arrays.values()}) > 1:
            arrays = {p: array.astype(np.float64) for p, array in arrays.items()}
        exact = replace(self.plan, matches=matches).for_follower(State(arrays), slots=False).value(path)
        array = _typed(exact, self.dtype if self.dtype and name in FLOATS else name)
        self._note(path, exact, array)
        return array

    def _note(self, path: str, exact: Array, array: Array) -> None:
        if exact.dtype == array.dtype:
            return
        true, kept = exact.astype(np.float64), array.astype(np.float64)
        off = np.abs(kept - true) / np.where(true == 0, 1.0, np.abs(true))
        if off.size and off.max() > 0:
            self.inexact[path] = float(off.max())

    def prove(self, target: Path) -> None:
        """Compare the values loaded from the written file with the intended ones, and convert them back.

        The source's side then has the values of the source; a value that cannot be written exactly is as written.

        Raises:
            FileError: a tensor was not loaded as written, or the source has several values for one tensor.
        """
        held = self.target.read()
        dtypes: dict[str, str] = {}
        for path in dict.fromkeys(p for m in self.plan.matches for p in m.piece(self.plan.follower).paths):
            meant = self.value(path)
            assert meant is not None
            dtypes[path] = str(meant.dtype)
            if not _equal(held.value(path), meant):
                raise FileError(
                    "Loading the written file gives different values.",
                    where=f"{target}: {path}",
                    cause="the load_own_variables of a layer does not match its save_own_variables",
                    todo="correct these methods, or convert to a different kind of file",
                )
        for m in self.plan.matches:
            self._go_back(m, held, dtypes)
        back = replace(self.plan, reference=self.plan.follower).for_follower(held, slots=False)
        state: dict[str, Array] = {}
        for path in self.own.values():
            matches = [m for m in self.plan.matches if path in m.piece(self.plan.reference).paths]
            if path in self.constant or not (matches or path in self.fitted.keys):
                continue  # keeps the float64 value of the built model
            array = self.get(path)
            state[path] = np.array(array, _wide(array))
            for m in matches:
                if not is_exact(m) or self.inexact.keys() & m.piece(self.plan.follower).paths:
                    part = m.piece(self.plan.reference).part
                    part.fill(state[path], part.select(back.value(path)))
        unloaded = {path: array for path, array in self.unloaded.values().items() if not self.matches(path)}
        self.target.write(State(unloaded))  # in float64 throughout, without the rounding of the file
        self.source.write(State(state))

    def _go_back(self, m: Match, held: State, dtypes: Mapping[str, str]) -> None:
        """Compare one match in both directions."""
        source, target = m.piece(self.plan.reference), m.piece(self.plan.follower)
        value, written = source.total(lambda path: _widened(self.get(path))), target.total(held.value)
        assert value is not None
        assert written is not None
        there = _typed(m.value_to(self.plan.follower, value), dtypes[target.paths[0]])
        exact = is_exact(m) and not self.inexact.keys() & target.paths
        if _equal(written, there) and (not exact or _equal(m.to(self.plan.reference, written), value)):
            return
        raise FileError(
            "The source has several weights with different values; the target has one weight.",
            where=f"{self.plan.reference} {source.name}",
            numbers=f"{self.plan.follower} {target.name}, made from "
            + " and from ".join(other.name(self.plan.reference) for other in self.matches(target.paths[0])),
            cause="the copies were trained separately, so they are not one weight",
            todo="give the target one weight for each; xcheck run PAIR shows where it uses this one",
        )

    def written(self, key: str, path: str, new: Stored) -> Written:
        """The description of one tensor of the written file."""
        path = self.target.inventory().canonical_path(path)
        matches = self.matches(path)
        sources = [m.name(self.plan.reference) + (f" {self._offset(m):+g}" if m.offset else "") for m in matches]
        layouts = dict.fromkeys(m.layout.name for m in matches)
        source = "; ".join(sources)
        if not matches and not _equal(_typed(self.built.value(path), new.dtypes[key]), new.get(key)):
            source = COMPUTED
        held = new.shapes[key], new.dtypes[key]
        return Written(key, path, source, ", ".join(layouts), *held, self.inexact.get(path, 0.0))

    def _offset(self, match: Match) -> float:
        return match.offset if self.plan.follower == "keras" else -match.offset

    def lost(self) -> list[str]:
        """Buffers of the source without counterpart whose values differ from those of a new model."""
        paths = [p for side, p in self.plan.unmatched_buffers if side == self.plan.reference and p in self.fitted.keys]
        return [p for p in paths if p not in self.constant and not _equal(self.own.value(p), self.get(p))]

    def know_constants(self, built: State) -> None:
        """Treat tensors of the file that equal those of a new model in its float type (such as frequencies) as
        constants.

        Args:
            built: the source's side in the float type of the file.
        """
        held = {path: _typed(built.value(path), str(self.get(path).dtype)) for path in self.lost()}
        self.constant = {path for path, array in held.items() if _equal(array, self.get(path))}

    def left_out(self) -> dict[str, str]:
        """Tensors of the source that are not in the target -> why."""
        used = {p for m in self.plan.matches for p in m.piece(self.plan.reference).paths}
        unused = {key: path for path, keys in self.fitted.keys.items() if path not in used for key in keys}
        why = {key: self.plan.waived.get(path, "a buffer without counterpart") for key, path in unused.items()}
        parts = {p: f"{why} (in part)" for p, why in self.plan.waived.items() if p.partition("[")[0] in used}
        absent = dict.fromkeys(
            self.fitted.absent, "waived; it is not in the file and keeps the value of the built model"
        )
        return {**self.fitted.left_out, **why, **parts, **absent}


def is_exact(match: Match) -> bool:
    """Whether a match transfers values bit by bit: it adds no offset."""
    return not match.offset and len(match.torch_piece.paths) == len(match.keras_piece.paths) == 1


def _common(names: set[str]) -> str:
    """The smallest float type that represents all of several exactly."""
    return names.pop() if len(names) == 1 else "float64" if "float64" in names else "float32"


def _typed(array: Array, name: str) -> Array:
    return array.astype(name) if str(array.dtype) in FLOATS and name in FLOATS else array


def _wide(array: Array) -> Any:
    return np.float64 if str(array.dtype) in FLOATS else array.dtype


def _widened(array: Array) -> Array:
    return array.astype(_wide(array), copy=False)


def _equal(held: Array, meant: Array) -> bool:
    held, meant = _widened(held), _widened(meant)
    return np.array_equal(held, meant, equal_nan=held.dtype.kind == "f")
