"""What a running side can do: the protocol that the pipeline is written against.

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
        """Set what the given state holds and leave the rest."""
        ...

    def snapshot(self) -> Any:
        """Everything `restore` needs to repeat what comes next, in the side's own form."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        ...

    def differing(self, one: Any, other: Any) -> Sequence[str]:
        """Where two snapshots hold different values, in words, and what is kept there that no snapshot can hold.

        Args:
            one, other: taken after one step, made twice from one state.
        """
        ...

    def counted(self, one: Any, other: Any) -> Sequence[str]:
        """Where Python's whole numbers differ in snapshots before and after a step, but for those of an optimizer."""
        ...

    def modes(self) -> Sequence[str]:
        """The ways to run a step besides the eager one."""
        ...

    def step(self, number: int, batch: Batch, *, observe: bool = True, mode: str = EAGER) -> StepRecord:
        """Train on one batch.

        Args:
            number: of the step, from 1; also seeds what is random in it.
            batch: in the neutral layout.
            observe: record gradients and outputs; False leaves the user's step untouched and records losses
                and states alone.
            mode: one of `modes`; those but the eager one are never observed.

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
            swap: may replace what a call returns, for all that comes after it.
            gradients: also compute the loss, as one more call, and differentiate it with respect to every output.
            inside: in which modules the functions that are called are listed too.
            again: keeps the pass, or makes a part of a kept one again.
        """
        ...

    def draws(self, batch: Batch) -> tuple[str, ...]:
        """What draws random numbers in a training pass though dropout is off, as "layer: function".

        The pass is made from several seeds: nothing where its outputs stay the same. Raises as `step` does.
        """
        ...

    def infer(self, batch: Batch) -> Arrays:
        """The outputs that are compared, of one forward pass in inference. Raises as `step` does."""
        ...

    def persistence(self) -> Persistence:
        """The ways to save this side and to load it again."""
        ...

    def exporter(self) -> Exporter:
        """Writes the model, as it is now, to ONNX."""
        ...

    def uses(self, number: int, batch: Batch) -> Mapping[str, Arrays]:
        """The gradients of the parameters that are used several times, or tied, one part per use.

        The step is made again from where the side stands; the state stays as it is.

        Args:
            number, batch: as for `step`.

        Returns:
            Canonical path -> name of the use, in the order of the forward pass -> gradient of the total loss through
            this use alone.

        Raises:
            UserCodeError: code of the pair raised.
        """
        ...

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """While the block runs, each result that is rounded is off by one more rounding error.

        PyTorch does so to every operation, forward, backward and in the optimizer; Keras, whose operations cannot be
        reached one by one, to what the model returns.

        Args:
            rng: says which way.
        """
        ...

    def stops(self, let_through: Open) -> AbstractContextManager[list[Stop]]:
        """While the block runs, the tensors of a training step keep their gradient at the chosen ones of the places
        where they lose it.

        Args:
            let_through: told of each.

        Returns:
            All of them, as the step comes to them; none where the side cannot see them.
        """
        ...

    def environment(self) -> Mapping[str, Any]:
        """Versions, devices and flags."""
        ...

    def notes(self) -> list[str]:
        """What a reader should know about how the side was run."""
        ...

    def promises(self) -> Mapping[str, Distribution]:
        """Path -> the distribution that the side says the parameter starts from, where it says so."""
        ...

    def holdings(self) -> Holdings | None:
        """What the optimizer was given to train; None where there is none."""
        ...

    def unmapped_slots(self) -> list[str]:
        """Optimizer slots that have no known role."""
        ...

    def close(self) -> None:
        """Undo global settings and free what is held."""
        ...


class Loaded(NamedTuple):
    """A side after a route.

    Attributes:
        runner: over the model that was loaded.
        optimizer_kept: its optimizer has the state of the one that was saved.
        remarks: what a reader should know besides.
        orphans: how many parameters its optimizer trains that its model does not have.
    """

    runner: Any
    optimizer_kept: bool
    remarks: Sequence[str] = ()
    orphans: int = 0


class Persistence(Protocol):
    """How one side is saved and loaded."""

    routes: Sequence[Route]

    def reload(self, route: Route, folder: Path, batch: Batch) -> Loaded:
        """Save the side as it is and load it into a model of its own.

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
        """Paths of what the side holds and a route leaves out."""
        ...

    def attributes(self) -> Mapping[str, Any]:
        """What the model holds in plain attributes besides its parameters and buffers: numbers, words, arrays."""
        ...

    def mend(self, attributes: Mapping[str, Any]) -> None:
        """Set plain attributes to these values, and let the optimizer train what the model has."""
        ...


@dataclass(frozen=True, slots=True)
class Exported:
    """What the inputs and outputs of an exported graph are in the side's own words.

    Attributes:
        inputs: (batch) -> name and value of each tensor that the model eats, in the order in which it eats them.
        outputs: (the graph's outputs by name, in its order) -> the outputs that are compared, by name.
        fixed: what kept the size of the batch from being left free; None where it is free.
    """

    inputs: Callable[[Batch], Sequence[tuple[str, Array]]]
    outputs: Callable[[Arrays], Arrays]
    fixed: str | None = None


class Exporter(Protocol):
    """Writes the model of a side to ONNX, in inference mode and with a free batch size."""

    def routes(self) -> Sequence[str]:
        """The ways there are to do so, the usual one first."""
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
            other: the like of another size; the axes that differ are the free ones.

        Raises:
            UserCodeError: the exporter raised.
        """
        ...


def rounding_factors(shape: tuple[int, ...], eps: float, rng: np.random.Generator) -> Array:
    """Factors that move each element by one relative rounding error, up or down at random.

    Args:
        shape: of what is moved.
        eps: the machine epsilon of its dtype.
        rng: says which way.
    """
    return 1.0 + eps * rng.choice(np.array([-1.0, 1.0]), size=shape)


def step_seed(seed: int, number: int) -> int:
    """What a step's random numbers are seeded with.

    Args:
        seed: of the run.
        number: of the step.
    """
    return seed * 1_000_003 % 2**31 + number


SCHEDULED = 50
"""Steps whose learning rates are noted, where a schedule says them."""


def known_kind(thing: Any, modules: tuple[str, ...]) -> str:
    """The name of the nearest class that a framework or `xcheck` made; its own class if that is none.

    Args:
        thing: of any class.
        modules: how the names of their modules start.
    """
    known = (c.__name__ for c in type(thing).__mro__ if c.__module__.startswith(modules))
    return next(known, type(thing).__name__)


class Prepared(NamedTuple):
    """A batch as one side eats it."""

    inputs: Any
    targets: Any = None
    sample_weight: Any = None


def prepared(prepare: Prepare | None, batch: Batch, side: SideName, islands: Islands | None = None) -> Prepared:
    """Apply a side's `prepare`; without one, the neutral layout is what it eats.

    Args:
        prepare: of the side, called in the float type of the run.
        batch: for it.
        side: whose.
        islands: of a side in float64, where NumPy computes in float64 too while `prepare` runs; None otherwise.

    Raises:
        UserCodeError: `prepare` raised, or did not return (inputs, targets).
    """
    batch = batch.copy()  # what is changed in place reaches neither the other side nor the next pass
    if prepare is None:
        return Prepared(batch.inputs, batch.targets)
    with calling(f"{side} prepare", numbers=describe(batch.inputs)):
        made: Any = prepare(batch) if islands is None else prepared_in_float64(prepare, batch, islands)
    if not isinstance(made, tuple) or len(made) not in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
        raise UserCodeError(
            f"The {side} side's prepare returned something else than (inputs, targets).",
            **got(made),
            todo="return (inputs, targets), or (inputs, targets, sample_weight) for Keras",
        )
    return Prepared(*made)  # pyright: ignore[reportUnknownArgumentType]


def projection(name: str, shape: tuple[int, ...]) -> Array:
    """Fixed random coefficients that turn an output into a scalar: sum(output * coefficients).

    Used as the loss where a pair gives none. Of unit variance over sqrt(size), so that the loss is about as large
    as the outputs; the same for both sides, since they depend on name and shape alone.

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
        total: what was differentiated; None to take the sum.
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
