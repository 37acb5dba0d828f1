"""The protocol of a running side, used by the pipeline.

A runner speaks its own framework's names and layouts and returns NumPy. It knows nothing of the other side.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import UserCodeError
from ..numerics.distributions import Distribution
from ..pairs.pair import Batch, Prepare
from ..pairs.user_code import Passing as Passing
from ..pairs.user_code import calling as calling
from ..pairs.user_code import describe as describe
from ..pairs.user_code import got as got
from ..pairs.user_code import leaving_out as leaving_out
from ..records.calls import Again, Calls, Inside, Open, Stop, Swap, nowhere
from ..records.inventory import Holdings, Inventory
from ..records.islands import Islands
from ..records.reload import Route
from ..records.sides import SideName
from ..records.trace import Array, Arrays, State, StepRecord
from .counters import Counts as Counts
from .numpy_precision import prepared_in_float64

EAGER = "eager"


class Runner(Protocol):
    """One side, built and ready to train."""

    side: SideName
    islands: Islands

    def inventory(self) -> Inventory:
        """The parameters and buffers, with their ties."""
        ...

    def read(self) -> State:
        """The current state, copied."""
        ...

    def write(self, state: State) -> None:
        """Set the values of this state and leave all others."""
        ...

    def snapshot(self) -> Any:
        """Everything that `restore` needs to repeat the next step, in the side's own form."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        ...

    def differing(self, first: Any, second: Any) -> Sequence[str]:
        """Where two snapshots differ, in words, and objects there that no snapshot can save.

        Args:
            first, second: taken after the same step, run twice from one state.
        """
        ...

    def counts(self, snapshots: Sequence[Any]) -> Counts:
        """What two steps count.

        Args:
            snapshots: before the first, between both, and after the second one.
        """
        ...

    def modes(self) -> Sequence[str]:
        """The modes of a step other than the eager one."""
        ...

    def step(self, number: int, batch: Batch, *, observe: bool = True, mode: str = EAGER) -> StepRecord:
        """Train on one batch.

        Args:
            number: of the step, from 1; also seeds its random numbers.
            batch: in the neutral layout.
            observe: record gradients and outputs; False leaves the user's step untouched and records only losses
                and states.
            mode: one of `modes`; only the eager one can be observed.

        Raises:
            UserCodeError: code of the pair raised.
        """
        ...

    def calls(
        self, batch: Batch, *, training: bool = False, swap: Swap | None = None,
        gradients: bool = False, inside: Inside = nowhere, again: Again | None = None,
    ) -> Calls:  # fmt: skip
        """Every call of a module or layer in one forward pass; the state stays as it is. Raises as `step` does.

        Args:
            batch: in the neutral layout.
            training: run as in a training step, dropout off; else as in inference.
            swap: may replace the outputs of a call for all later code.
            gradients: also compute the loss, as one more call, and differentiate it with respect to every output.
            inside: selects modules whose function calls are listed too.
            again: stores the pass, or repeats a part of a stored one.
        """
        ...

    def draws(self, batch: Batch) -> tuple[str, ...]:
        """Functions that draw random numbers in a training pass with dropout off, as "layer: function".

        The pass runs from several seeds; empty if its outputs stay the same. Raises as `step` does.
        """
        ...

    def infer(self, batch: Batch) -> Arrays:
        """The outputs that are compared, of one forward pass in inference. Raises as `step` does."""
        ...

    def persistence(self) -> Persistence:
        """The ways to save and reload this side."""
        ...

    def exporter(self) -> Exporter:
        """Writes the current model to ONNX."""
        ...

    def uses(self, number: int, batch: Batch) -> Mapping[str, Arrays]:
        """The gradients of the parameters that are used several times, or tied, one part per use.

        The step is repeated from the current state; the state stays as it is.

        Args:
            number, batch: as for `step`.

        Returns:
            Canonical path -> name of the use, in the order of the forward pass -> gradient of the total loss through
            this use only.

        Raises:
            UserCodeError: code of the pair raised.
        """
        ...

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """While the block runs, each rounded result gets one more rounding error.

        PyTorch perturbs every operation, forward, backward and in the optimizer; Keras, whose operations cannot be
        intercepted one by one, only the outputs of the model.

        Args:
            rng: decides up or down.
        """
        ...

    def stops(self, let_through: Open) -> AbstractContextManager[list[Stop]]:
        """While the block runs, the tensors of a training step keep their gradient at chosen places where they would
        lose it.

        Args:
            let_through: decides for each place.

        Returns:
            All places, added as the step reaches them; none if the side cannot observe them.
        """
        ...

    def environment(self) -> Mapping[str, Any]:
        """Versions, devices and flags."""
        ...

    def notes(self) -> list[str]:
        """Notes about how the side was run."""
        ...

    def promises(self) -> Mapping[str, Distribution]:
        """Path -> declared distribution of the parameter's initial values, where declared."""
        ...

    def holdings(self) -> Holdings | None:
        """The parameters that the optimizer trains; None without an optimizer."""
        ...

    def unmapped_slots(self) -> list[str]:
        """Optimizer slots that have no known role."""
        ...

    def close(self) -> None:
        """Undo global settings and free resources."""
        ...


class Loaded(NamedTuple):
    """A side after a route.

    Attributes:
        runner: of the loaded model.
        optimizer_kept: its optimizer has the saved state.
        remarks: for a reader.
        orphans: how many parameters its optimizer trains that are not in its model.
    """

    runner: Any
    optimizer_kept: bool
    remarks: Sequence[str] = ()
    orphans: int = 0


class Persistence(Protocol):
    """How one side is saved and loaded."""

    routes: Sequence[Route]

    def reload(self, route: Route, folder: Path, batch: Batch) -> Loaded:
        """Save the current side and load it into a separate model.

        Args:
            route: one of `routes`.
            folder: to write to.
            batch: what a model that is made anew may be built with.

        Raises:
            UserCodeError: the route does not take this model.
        """
        ...

    def restarted(self) -> AbstractContextManager[None]:
        """While the block runs the side trains with a fresh optimizer."""
        ...

    def unsaved(self, route: Route) -> Sequence[str]:
        """Paths of values of the side that a route leaves out."""
        ...

    def forgotten(self) -> Mapping[str, tuple[Any, Any]]:
        """Settings of the model that its config leaves out: path -> value, and the default that replaces it."""
        ...

    def attributes(self) -> Mapping[str, Any]:
        """Plain attributes of the model other than parameters and buffers: numbers, strings, arrays."""
        ...

    def mend(self, attributes: Mapping[str, Any]) -> None:
        """Set plain attributes to these values, and make the optimizer train the model's parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Exported:
    """Inputs and outputs of an exported graph under the side's own names.

    Attributes:
        inputs: (batch) -> name and value of each input tensor of the model, in its order.
        outputs: (the graph's outputs by name, in its order) -> the outputs that are compared, by name.
        fixed: why the batch size could not be left free; None if it is free.
        by_design: whether the route is documented to leave no batch free.
    """

    inputs: Callable[[Batch], Sequence[tuple[str, Array]]]
    outputs: Callable[[Arrays], Arrays]
    fixed: str | None = None
    by_design: bool = False


class Exporter(Protocol):
    """Writes the model of a side to ONNX, in inference mode and with a free batch size."""

    def routes(self) -> Sequence[str]:
        """The available routes, the usual one first."""
        ...

    def infer(self, batch: Batch) -> Arrays:
        """The outputs of the model itself in inference mode."""
        ...

    def export(self, route: str, path: Path, batch: Batch, other: Batch) -> Exported:
        """Write the model to `path`.

        Args:
            route: one of `routes`.
            path: of the file.
            batch: to trace the model with.
            other: a similar batch of a different size; axes that differ are free.

        Raises:
            UserCodeError: the exporter raised.
        """
        ...


def rounding_factors(shape: tuple[int, ...], eps: float, rng: np.random.Generator) -> Array:
    """Factors that move each element by one relative rounding error, up or down at random.

    Args:
        shape: of the array to move.
        eps: the machine epsilon of its dtype.
        rng: decides up or down.
    """
    return 1.0 + eps * rng.choice(np.array([-1.0, 1.0]), size=shape)


def step_seed(seed: int, number: int) -> int:
    """The seed of a step's random numbers.

    Args:
        seed: of the run.
        number: of the step.
    """
    return seed * 1_000_003 % 2**31 + number


SCHEDULED = 50
"""Steps whose learning rates are recorded, where a schedule defines them."""


def known_kind(thing: Any, modules: tuple[str, ...]) -> str:
    """The name of the nearest class of a framework or `xcheck`; its own class if there is none.

    Args:
        thing: of any class.
        modules: prefixes of their module names.
    """
    known = (c.__name__ for c in type(thing).__mro__ if c.__module__.startswith(modules))
    return next(known, type(thing).__name__)


class Prepared(NamedTuple):
    """A batch in the form for one side."""

    inputs: Any
    targets: Any = None
    sample_weight: Any = None


def prepared(prepare: Prepare | None, batch: Batch, side: SideName, islands: Islands | None = None) -> Prepared:
    """Apply a side's `prepare`; without one, the neutral layout is used.

    Args:
        prepare: of the side, called in the float type of the run.
        batch: for it.
        side: of the `prepare`.
        islands: of a side in float64, whose `prepare` also runs NumPy in float64; None otherwise.

    Raises:
        UserCodeError: `prepare` raised, or did not return (inputs, targets).
    """
    batch = batch.copy()  # in-place changes must reach neither the other side nor the next pass
    if prepare is None:
        return Prepared(batch.inputs, batch.targets)
    with calling(f"{side} prepare", numbers=describe(batch.inputs)):
        result: Any = prepare(batch) if islands is None else prepared_in_float64(prepare, batch, islands)
    if not isinstance(result, tuple) or len(result) not in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
        raise UserCodeError(
            f"The {side} side's prepare did not return (inputs, targets).",
            **got(result),
            todo="return (inputs, targets), or (inputs, targets, sample_weight) for Keras",
        )
    return Prepared(*result)  # pyright: ignore[reportUnknownArgumentType]


def projection(name: str, shape: tuple[int, ...]) -> Array:
    """Fixed random coefficients that turn an output into a scalar: sum(output * coefficients).

    The loss of a pair without one. Unit variance over sqrt(size), so that the loss is about as large as the outputs;
    the same for both sides, since they depend only on name and shape.

    Args:
        name: of the output.
        shape: of the output.
    """
    rng = np.random.default_rng([zlib.crc32(name.encode()), *shape])
    return rng.standard_normal(shape) / np.sqrt(max(np.prod(shape), 1))


def losses_record(data: Mapping[str, Array], penalty: Mapping[str, Array], total: Array | None) -> Arrays:
    """Loss terms under the names of `StepRecord.losses`.

    Args:
        data, penalty: term name -> scalar; "" for an unnamed one.
        total: the differentiated loss; None to take the sum.
    """
    record: dict[str, Array] = {}
    for kind, terms in (("data", data), ("penalty", penalty)):
        if terms:
            record[kind] = np.sum([np.asarray(v, np.float64) for v in terms.values()], axis=0)
        record |= {f"{kind}/{name}": np.asarray(v) for name, v in terms.items() if name}
    if total is None and not record:
        return record
    record["total"] = np.asarray(
        total if total is not None else sum(record[k] for k in ("data", "penalty") if k in record)
    )
    return record
