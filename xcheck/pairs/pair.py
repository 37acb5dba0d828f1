"""The pair: two training setups claimed to be the same, and their data.

Everything here is a declaration, validated on creation; no framework is imported. Factories, losses and steps are the
user's code and run only during a check.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..errors import BatchError, PairError
from ..records.accepted import Acceptance
from ..records.plain_arrays import owned
from ..records.result import PHASES, Verdict
from ..records.trace import Array
from .signatures import TORCH_CALLS, check_arguments, check_callables

Arrays = Array | Mapping[str, Array] | tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A parameter deliberately left out of the comparison."""

    reason: str


def waive(reason: str) -> Waiver:
    """Leave a parameter out of the comparison; the report repeats the reason.

    Raises:
        PairError: the reason is empty.
    """
    if not reason.strip():
        raise PairError("A waiver needs a reason.", todo='write xcheck.waive("why this parameter is left out")')
    return Waiver(reason)


@dataclass(frozen=True, slots=True)
class Copies:
    """Keras variables that correspond to one PyTorch parameter and are kept equal by the pair's own code."""

    paths: tuple[str, ...]


def copies(*paths: str) -> Copies:
    """Declare that Keras has several copies of a parameter and keeps them equal itself.

    They are then not a broken tie: their gradients and updates decide whether they train like the one parameter.
    Without this, several variables for one parameter are DIFFERENT.

    Args:
        paths: of the Keras variables.

    Raises:
        PairError: there are fewer than two.
    """
    if len(set(paths)) < 2:
        raise PairError(
            "Copies are at least two variables.",
            numbers=f"xcheck.copies({', '.join(map(repr, paths))})",
            todo='write xcheck.copies("keras/first", "keras/second")',
        )
    return Copies(paths)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch in a neutral layout, for both sides.

    Args:
        inputs: array, or dict of arrays; every array has the batch as its first axis.
        targets: in the same form, or None.
        compare: output name -> boolean mask of the meaningful positions, such as unpadded tokens;
            its shape covers the first axes of the output.

    Raises:
        BatchError: a value is not an array, is empty, or is not numeric.
    """

    inputs: Arrays
    targets: Arrays | None = None
    compare: Mapping[str, Array] | None = None

    def __post_init__(self) -> None:
        if not _named(self.inputs):
            raise BatchError("A batch has no inputs.", where="Batch.inputs", numbers=f"got {self.inputs!r}")
        compare: Any = self.compare
        if compare is not None and not isinstance(compare, Mapping):
            raise BatchError(
                "Batch.compare is not a dict.",
                where="Batch.compare",
                numbers=f"got {type(compare).__name__}",
                todo='give the output of each mask: compare={"output": mask}',
            )
        for part, value in (("inputs", self.inputs), ("targets", self.targets), ("compare", self.compare)):
            for name, array in _named(value):
                _check_array(f"{part}{name}", array)
                if part == "compare" and array.dtype != np.bool_:
                    raise BatchError(
                        "A mask in Batch.compare is not boolean.",
                        where=f"Batch.{part}{name}",
                        numbers=f"dtype {array.dtype}",
                        todo="True marks the positions to compare: mask.astype(bool)",
                    )
        for part in ("inputs", "targets", "compare"):  # the caller may change its arrays later
            object.__setattr__(self, part, owned(getattr(self, part)))

    def copy(self) -> Batch:
        """The same batch with new arrays."""
        return replace(self)

    @property
    def size(self) -> int:
        """Number of examples: the length of the first axis of the first input."""
        first: Array = next(iter(_named(self.inputs)))[1]
        return first.shape[0]

    def digest(self) -> str:
        """A fingerprint of names, shapes, dtypes and values, equal on every machine for equal batches."""
        digest = hashlib.sha256()
        for part, value in (("inputs", self.inputs), ("targets", self.targets), ("compare", self.compare)):
            for name, array in sorted(_named(value), key=lambda item: item[0]):
                digest.update(f"{part}{name} {array.dtype.str} {array.shape}".encode())
                digest.update(np.asarray(array, order="C").tobytes())
        return digest.hexdigest()

    def terms(self) -> int:
        """Number of elements of the inputs: most terms of a sum over a batch."""
        return sum(array.size for _, array in _named(self.inputs))


def _named(value: Any) -> list[tuple[str, Any]]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", item) for key, item in value.items()]  # pyright: ignore
    if isinstance(value, tuple):
        return [(f"[{i}]", item) for i, item in enumerate(value)]  # pyright: ignore
    return [("", value)]


def _check_array(where: str, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise BatchError(
            "A batch contains something that is not a NumPy array.",
            where=f"Batch.{where}",
            numbers=f"{type(array).__module__}.{type(array).__qualname__}",
            todo="convert it in `batches`, for example with numpy.asarray(...)",
        )
    if np.ma.is_masked(array):  # pyright: ignore[reportUnknownArgumentType]
        raise BatchError(
            "A batch contains a masked array.",
            where=f"Batch.{where}",
            numbers=f"{np.ma.count_masked(array)} of {array.size} elements are masked",  # pyright: ignore
            cause="both frameworks ignore the mask and would compute with the masked values",
            todo="use array.filled(value), and pass the mask to the models as a separate input",
        )
    if array.dtype.kind not in "fiub":  # pyright: ignore[reportUnknownMemberType]
        raise BatchError(
            "A batch contains an array that is not numeric.",
            where=f"Batch.{where}",
            numbers=f"dtype {array.dtype}, shape {array.shape}",  # pyright: ignore
            todo="encode it as numbers in `batches`",
        )
    if array.ndim == 0 or array.size == 0:
        raise BatchError(
            "A batch contains an array that is empty or has no batch axis.",
            where=f"Batch.{where}",
            numbers=f"shape {array.shape}",  # pyright: ignore[reportUnknownMemberType]
        )


Prepare = Callable[[Batch], Any]
"""(batch) -> (inputs, targets) or (inputs, targets, sample_weight), NumPy, in the layout of the side."""


@dataclass(frozen=True, slots=True)
class TorchSide:
    """The PyTorch half.

    Args:
        build: () -> torch.nn.Module, or a module already built.
        loss: (outputs, targets) -> scalar tensor, or a dict of named scalars that are summed. Left out on both
            sides: a fixed random projection of the outputs.
        optimizer: (parameters) -> torch.optim.Optimizer. Left out on both sides: plain SGD.
        penalty: (model) -> scalar or dict of named scalars, added to the loss.
        prepare: (batch) -> (inputs, targets); inputs as a dict (keyword arguments), a tuple (positional) or one
            array.
        step: (model, optimizer, batch) -> loss; replaces the whole standard training step. `batch` has the prepared
            inputs, targets and sample_weight as tensors. State of the step belongs on the model or the optimizer, a
            scheduler as `optimizer.scheduler`.
        after_step: (model) -> None, after the optimizer's step; for constraints.
        outputs: (raw) -> tensor or dict of named tensors, what is compared and what the loss receives.
    """

    build: Any
    loss: Callable[..., Any] | None = None
    optimizer: Callable[..., Any] | None = None
    penalty: Callable[..., Any] | None = None
    prepare: Prepare | None = None
    step: Callable[..., Any] | None = None
    after_step: Callable[..., Any] | None = None
    outputs: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        check_callables("TorchSide", self, TORCH_CALLS)


@dataclass(frozen=True, slots=True)
class KerasSide:
    """The Keras half.

    Args:
        build: () -> keras.Model, or a model already built; compiled or not.
        loss: argument of `compile`. Left out for a model that is already compiled.
        optimizer: () -> keras.optimizers.Optimizer. Left out for a model that is already compiled.
        prepare: (batch) -> (inputs, targets) or (inputs, targets, sample_weight), as `fit` takes them.
        compile_options: other arguments of `compile`.
        outputs: (raw) -> tensor or dict of named tensors, what is compared and what the loss receives.
    """

    build: Any
    loss: Any = None
    optimizer: Callable[[], Any] | None = None
    prepare: Prepare | None = None
    compile_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        loss = {"loss": "targets, outputs"} if inspect.isfunction(self.loss) else {}
        check_callables("KerasSide", self, {"optimizer": "", "prepare": "batch", "outputs": "raw"} | loss)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected outcome of a negative control.

    Args:
        verdict: the verdict of the run.
        phase: of the first divergence; None for any.
        cause: id of the cause that must be reported, as the only confirmed one; None for any.
        besides: ids of other causes that may also be confirmed.
    """

    verdict: Verdict
    phase: str | None = None
    cause: str | None = None
    besides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.verdict not in Verdict.__members__:
            raise PairError(
                "Expectation.verdict must be a verdict.",
                numbers=f"got {self.verdict!r}; verdicts: {', '.join(Verdict)}",
            )
        object.__setattr__(self, "verdict", Verdict(self.verdict))
        if self.phase is not None and self.phase not in PHASES:
            raise PairError(
                f"Expectation.phase {self.phase!r} is not a phase.",
                numbers=f"phases: {', '.join(PHASES)}",
                where="Pair.expect",
            )


WeightTarget = str | tuple[str, str] | Sequence[str | tuple[str, str]] | Waiver | Copies


@dataclass(frozen=True, slots=True)
class Pair:
    """Two training setups claimed to be the same.

    Args:
        name: in reports.
        torch, keras: the two sides.
        batches: (seed) -> iterable of `Batch`, at least one per step.
        weight_map: PyTorch path -> Keras path, (Keras path, layout name), list of these where Keras has several
            variables for it, `copies(...)` where it keeps them equal itself, or `waive(reason)`. Other parameters are
            matched automatically; None matches all of them automatically.
        ties: groups of paths of one side that must share storage.
        reference: the side whose state is copied to the other.
        expect: the declared outcome of a negative control: a verdict or an `Expectation`.
        also: phases on request that every run of this pair includes: "modes", "persistence", "export".
        accept: known and intended differences: ids of causes, with "@place" for a single place; or quantities named as
            in the report, such as "buffer running_var" or "weight decoder.bias". The run continues as if they did not
            exist; its verdict can be "EQUIVALENT apart from" them.

    Raises:
        PairError: a part is missing or contradicts another.
    """

    name: str
    torch: Any
    keras: Any
    batches: Callable[[int], Iterable[Batch]]
    weight_map: Mapping[str, WeightTarget] | None = None
    ties: Sequence[Sequence[str]] = ()
    reference: Literal["torch", "keras"] = "torch"
    expect: Expectation | str | None = None
    also: Sequence[str] = ()
    accept: Sequence[str] = ()

    def __post_init__(self) -> None:
        where = f"Pair({self.name!r})"
        if not self.name or "/" in self.name:
            raise PairError("Pair.name must be usable as a folder name.", numbers=f"got {self.name!r}")
        if not callable(self.batches):
            raise PairError(
                "Pair.batches is not callable.",
                where=where,
                numbers=f"got {type(self.batches).__name__}",
                todo="pass a function: batches=lambda seed: [xcheck.Batch(inputs, targets), ...]",
            )
        check_arguments("Pair.batches", self.batches, "seed")
        if self.reference not in ("torch", "keras"):
            raise PairError(
                "Pair.reference must be 'torch' or 'keras'.",
                where=where,
                numbers=f"got {self.reference!r}",
            )
        weight_map: Any = self.weight_map
        if weight_map is not None and not isinstance(weight_map, Mapping):
            raise PairError(
                "Pair.weight_map must be a dict.",
                where=where,
                numbers=f"got {type(weight_map).__name__}",
                todo='write {"torch.path": "keras/path"}, or leave it out',
            )
        for name, wrong_side in (("torch", KerasSide), ("keras", TorchSide)):
            if isinstance(getattr(self, name), wrong_side):
                raise PairError(f"Pair.{name} got a {wrong_side.__name__}.", where=where, todo="swap the two sides")
        unknown = [phase for phase in self.also if phase not in PHASES]
        if unknown or isinstance(self.also, str):
            raise PairError(
                "Pair.also must be a list of phases.",
                where=where,
                numbers=f"got {self.also!r}; phases: {', '.join(PHASES)}",
            )
        if isinstance(self.accept, str):
            raise PairError("Pair.accept must be a list.", where=where, todo=f"write accept=[{self.accept!r}]")
        for text in self.accept:
            Acceptance.of(text)
        if isinstance(self.expect, str):
            if self.expect not in Verdict.__members__:
                raise PairError(
                    "Pair.expect must be a verdict or an xcheck.Expectation.",
                    where=where,
                    numbers=f"got {self.expect!r}; verdicts: {', '.join(Verdict)}",
                )
            object.__setattr__(self, "expect", Expectation(Verdict(self.expect)))
        self._check_matching_parts(where)

    def _check_matching_parts(self, where: str) -> None:
        torch, keras = self.torch, self.keras
        if not (isinstance(torch, TorchSide) and isinstance(keras, KerasSide)):
            return
        projected = torch.loss is None and torch.step is None
        if projected and keras.loss is not None:
            raise PairError(
                "Only the Keras side has a loss.",
                where=where,
                todo="give TorchSide a loss (or a step), or leave the loss out on both sides",
            )
        if projected and torch.optimizer is None and keras.optimizer is not None:
            raise PairError(
                "Only the Keras side has an optimizer.",
                where=where,
                todo="give TorchSide an optimizer, or leave it out on both sides",
            )
