"""The Keras side, running: the user's own compiled training step."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ...errors import PairError
from ...numerics.distributions import Distribution
from ...pairs.pair import Batch, KerasSide
from ...pairs.user_code import calling, describe, got, leaving_out
from ...records.calls import Again, Calls, Inside, Open, Stop, Swap, nowhere
from ...records.inventory import Holdings, Inventory
from ...records.islands import Islands
from ...records.plain_arrays import owned
from ...records.sides import SideName
from ...records.store import Store
from ...records.trace import Array, Arrays, State, StepRecord
from ..compared_outputs import compared
from ..counters import Counts, counts
from ..function_state import FunctionState
from ..optimizers import facts_of_all
from ..passes import Drops, passes_record
from ..protocol import EAGER, Prepared, prepared, step_seed
from ..reachable import functions
from ..step_as_pass import pass_by_step, terms_of_a_step
from ..user_arguments import asked
from .backends import named_device
from .drawing import draws, used_rates
from .export import KerasExporter
from .fitting import fitted
from .initializers import promises
from .optimizer import facts
from .optimizers import build_alone, built_by_a_step, optimizers_of, unmapped_of
from .patches.as_trained import called
from .patches.calls import Watch, differentiated
from .patches.dropout import dropout_off
from .patches.handed_over import HandedOver
from .patches.layer_names import naming
from .patches.precision import exact_factors, float64_throughout, float_type, layer_of, policy_islands
from .patches.rounding import rounding
from .patches.stops import stops
from .patches.tf_operations import seed_all
from .patches.time_loops import TimeLoops
from .patches.training_step import Seen, has_call, has_own_step, observed, projected_loss
from .patches.uses import uses
from .persistence import KerasPersistence
from .reachable import KerasTensors
from .rebuild import in_float_type, in_floatx
from .state import averages_of, holdings, read, snapshot, unchanged, write
from .variables import as_real, as_tensor, canonical, inventory, to_numpy


class KerasRunner:
    """A built and compiled Keras model.

    Args:
        declared: the side.
        precision: "float64" or "float32"; the float type of every variable, input and constant.
        device: "cpu" or "cuda".
        seed: for what `build` draws.
        store: keeps what is read of it; None for one of its own.

    Raises:
        PairError: `build` gave no model, or there is no loss or optimizer to train with.
        UserCodeError: `build` or `optimizer` raised.
        SetupError: there is no such device.
    """

    side: SideName = "keras"

    def __init__(
        self, declared: KerasSide, *, precision: str, device: str, seed: int, store: Store | None = None
    ) -> None:
        self.declared = declared
        self.store = store or Store()
        self._given: list[Array] = []
        self.precision = precision
        self.seed = seed
        self._device = named_device(device)
        self.projected, self._mode, self._loops = False, EAGER, TimeLoops(precision)
        self.islands = Islands(layer_of)
        self.remarks: list[str] = []
        self._names: dict[str, int] = defaultdict(int)
        self._outside, self._handed_over = FunctionState(self, KerasTensors()), HandedOver()
        with self._scope():
            self.model = self._build()
            self._compile()
        self.averages = averages_of(self.model, self.store, functions(declared))
        self.islands.numbers.clear()  # what came in while the model was built is in its state

    @contextmanager
    def _scope(self) -> Generator[None]:
        """The user's code runs in the precision and on the device of the run."""
        with (
            keras.device(self._device),
            self._floats(),
            naming(self._names),
            warnings.catch_warnings(),
        ):
            # A model with everything frozen is a legitimate pair; that nothing trains is reported by the check.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"keras|tensorflow")
            warnings.filterwarnings("ignore", message="Gradients do not exist for variables")
            warnings.filterwarnings("ignore", message="The model does not have any trainable weights")
            warnings.filterwarnings("ignore", message="Explicitly requested dtype int64")  # JAX in float32
            yield

    def _floats(self) -> Any:
        return float64_throughout(self.islands) if self.precision == "float64" else float_type(self.precision)

    def _build(self) -> keras.Model:
        build = self.declared.build
        if isinstance(build, keras.Model):
            model: Any = build
        else:
            keras.utils.set_random_seed(self.seed)
            with calling("keras build"):
                model = build()
        if not isinstance(model, keras.Model):
            raise PairError("KerasSide.build did not return a keras.Model.", where="KerasSide.build", **got(model))
        self._made = in_float_type(model, self.precision, existed=model is build)
        return self._made.model

    def _compile(self) -> None:
        declared, model = self.declared, self.model
        if declared.loss is None and declared.optimizer is None and model.compiled:
            model.run_eagerly = True
            return
        if declared.optimizer is None:
            optimizer: Any = keras.optimizers.SGD(learning_rate=0.01)
        else:
            with calling("keras optimizer"):
                optimizer = asked(declared.optimizer, [], {"model": model})
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise PairError("KerasSide.optimizer did not return a keras.optimizers.Optimizer.", **got(optimizer))
        self.projected = declared.loss is None
        options = {"jit_compile": False, **declared.compile_options, "run_eagerly": True}
        with calling("keras compile"):
            model.compile(optimizer=optimizer, loss=keras.tree.map_structure(in_floatx, declared.loss), **options)

    def _ensure_built(self, ready: Prepared) -> None:
        """Create the variables that a subclassed model makes at its first call, and the optimizer's slots."""
        if has_call(self.model) and not (self.model.built and self.model.variables):
            with unchanged(self.model):
                self._call(ready.inputs, training=False)
        self._made.fill()
        if self.precision == "float64":
            policy_islands(self.model, self.islands)
            exact_factors(self.model, self.islands)
        with calling("keras optimizer build"):
            left = build_alone(self.model)
        if left or self._handed_over.is_open(self.model):
            kept = self.snapshot()
            told = calling("keras training step", numbers=describe(tuple(ready)))
            watch = observed(self.model, Seen(), self._picked, self._named_outputs, self.projected)
            with told, dropout_off(), watch, built_by_a_step(self.model) if left else nullcontext():
                self._train(ready, EAGER)
            self.restore(kept)

    def prime(self, batch: Batch) -> None:
        """Build what needs a first batch to be built; changes no state.

        Raises:
            UserCodeError: the model cannot be called with this batch.
        """
        with self._scope():
            self._ensure_built(self._ready(batch))

    def inventory(self) -> Inventory:
        return inventory(self.model)

    def read(self) -> State:
        self._outside.enter()
        with self._scope():  # a learning-rate schedule computes when it is read
            return self.averages.read(read(self.model, self.store))

    def write(self, state: State) -> None:
        self._outside.enter()
        with self._scope():
            follow = self.averages.following(read(self.model, self.store).parameters)
            write(self.model, State(state.parameters, state.buffers))
            follow(state)
            write(self.model, state)
        self._given = self.store.adopt(state.values().values())

    def snapshot(self) -> Any:
        self._outside.enter()
        return snapshot(self.model, self.store, functions(self.declared))

    def restore(self, snapshot: Any) -> None:
        self._outside.enter()
        with self._scope():
            snapshot.restore()
        self.store.release()

    def differing(self, first: Any, second: Any) -> Sequence[str]:
        return first.moved(second)

    def counts(self, snapshots: Sequence[Any]) -> Counts:
        return counts(snapshots, KerasTensors())

    def holdings(self) -> Holdings | None:
        return holdings(self.model)

    def unmapped_slots(self) -> list[str]:
        return unmapped_of(self.model, self.averages.places())

    def promises(self) -> Mapping[str, Distribution]:
        return {} if self._made.given else promises(self.model)  # what was given may be trained

    def modes(self) -> Sequence[str]:
        return ("graph", "xla", "fit") if keras.config.backend() == "tensorflow" else ("compiled", "fit")

    def _set_mode(self, mode: str) -> None:
        self._mode, self.model.run_eagerly, self.model.jit_compile = mode, mode == EAGER, mode in ("xla", "compiled")
        self.model.train_function = None  # made anew for the mode at the next step

    def _train(self, ready: Prepared, mode: str) -> Mapping[str, Any]:
        if mode != "fit":
            tensors = [keras.tree.map_structure(as_tensor, part) for part in ready]  # as `fit` hands them over
            return self._handed_over.train(self.model, tensors, self.snapshot)
        return fitted(self.model, ready)

    def step(self, number: int, batch: Batch, *, observe: bool = True, mode: str = EAGER) -> StepRecord:
        if mode != self._mode:
            self._set_mode(mode)
        with self._scope():
            ready = self._ready(batch)
            self._ensure_built(ready)
            before = self.read()
            averages = self.averages.around(before)
            inference, at_inference = self._infer(ready) if observe and has_call(self.model) else ({}, ())
            seed_all(step_seed(self.seed, number), self.precision)
            seen = Seen()
            watch = observed(self.model, seen, self._picked, self._named_outputs, self.projected)
            drops, drew, told = Drops(), list[str](), calling("keras training step", numbers=describe(tuple(ready)))
            replaced = self.projected or self.declared.outputs is not None  # the loss sees what is picked, always
            watching = watch if observe or replaced else nullcontext()
            with told, dropout_off(drops, drew), self._loops.as_graphs(), watching:
                logs = self._train(ready, mode)
            losses = seen.losses(logs, has_own_step(self.model))
            calls, recorded = seen.calls(), seen.differentiated()
            outputs, settings, engaged = passes_record(calls, recorded, drops, at_inference, batch.size)
            gradients = self._gradients(seen) if observe else {}
            seen.forget()
            self.store.release()
            made = number, *averages(self.read), inference, outputs, losses, settings, gradients, {}
            return StepRecord(*made, tuple(dict.fromkeys(drew)), len(calls), engaged)

    def draws(self, batch: Batch) -> tuple[str, ...]:
        return draws(self, batch)

    def _ready(self, batch: Batch) -> Prepared:
        islands = self.islands if self.precision == "float64" else None
        made = prepared(self.declared.prepare, batch, self.side, islands)
        return Prepared(*(keras.tree.map_structure(self._cast, part) for part in made))

    def _cast(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = owned(value)
            return value.astype(self.precision, copy=False) if value.dtype.kind == "f" else value
        if keras.ops.is_tensor(value) and keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype)):
            return keras.ops.cast(value, self.precision)
        return value

    def _call(self, inputs: Any, training: bool) -> Any:
        with calling(
            "keras model, called with this batch,",
            numbers=describe(inputs),
            todo="check KerasSide.prepare and the keys of the batch, or the model; XCHECK_TRACEBACK=1 shows the rest",
        ):
            x = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
            return called(self.model, x, training)

    def calls(
        self,
        batch: Batch,
        *,
        training: bool = False,
        swap: Swap | None = None,
        gradients: bool = False,
        inside: Inside = nowhere,
        again: Again | None = None,
    ) -> Calls:
        kept = self.snapshot()
        try:
            with self._scope(), dropout_off():
                ready = self._ready(batch)
                self._ensure_built(ready)
                watch = Watch(self.model, swap, inside, again)

                def total() -> Any:
                    with watch.recording():
                        by_step = not has_call(self.model)
                        raw = None if by_step else self._call(ready.inputs, training=training)
                        if by_step:
                            pass_by_step(lambda: self._train(ready, EAGER), "keras training step", swap is not None)
                    if not gradients or by_step:
                        return None
                    with watch.recording_loss({"outputs": raw, "targets": ready.targets}) as made:
                        made["output"] = self._total(ready, raw, training)
                    return made["output"]

                by_call = differentiated(total, watch) if gradients else total() or {}
        finally:
            self.restore(kept)
        return tuple(replace(call, gradients=by_call.get(call.index, {})) for call in watch.made)

    def uses(self, number: int, batch: Batch) -> Mapping[str, Arrays]:
        with leaving_out(self.remarks, "the gradients of the keras side are not split by use"):
            return uses(self, number, batch)
        return {}

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        return rounding(self.model, rng)

    def stops(self, let_through: Open) -> AbstractContextManager[list[Stop]]:
        return stops(self, let_through)

    def _total(self, ready: Prepared, raw: Any, training: bool) -> Any:
        """The loss and the penalties, as the training step takes them."""
        picked = self._picked(raw)
        if self.projected:
            return projected_loss(self.model, self._named_outputs(picked))
        inputs, targets, weight = (keras.tree.map_structure(as_tensor, part) for part in ready)
        what = "keras compute_loss, which its own train_step may not use," if has_own_step(self.model) else "keras loss"
        with calling(what, numbers=describe(tuple(ready))):
            return self.model.compute_loss(inputs, targets, picked, sample_weight=weight, training=training)

    def _picked(self, raw: Any) -> Any:
        if self.declared.outputs is None:
            return raw
        with calling("keras outputs", numbers=describe(raw)):
            return self.declared.outputs(raw)

    def _named_outputs(self, picked: Any) -> dict[str, Any]:
        return compared(self.side, picked, keras.ops.is_tensor, as_real, self.declared.outputs is not None)

    def infer(self, batch: Batch) -> Arrays:
        with self._scope():
            ready = self._ready(batch)
            self._ensure_built(ready)
            return self._infer(ready)[0]

    def _infer(self, ready: Prepared) -> tuple[dict[str, Array], list[float]]:
        if not has_call(self.model):
            with dropout_off():
                return terms_of_a_step(self, lambda: Seen().losses(self._train(ready, EAGER), own_step=True)), []

        def call() -> dict[str, Any]:
            with unchanged(self.model), self._loops.as_graphs():
                return self._named_outputs(self._picked(self._call(ready.inputs, training=False)))

        return used_rates(call)

    def _gradients(self, seen: Seen) -> dict[str, Array | None]:
        found: dict[str, Array | None] = {}
        for place in canonical(self.model).values():
            if place.variable.trainable and not place.buffer:
                gradient = seen.gradient(place.variable)
                found[place.path] = None if gradient is None else to_numpy(gradient, self.store)
        return found

    def persistence(self) -> KerasPersistence:
        return KerasPersistence(self)

    def exporter(self) -> KerasExporter:
        return KerasExporter(self)

    def environment(self) -> Mapping[str, Any]:
        with self._scope():
            of_optimizer = facts_of_all(optimizers_of(self.model), facts)
        found: dict[str, Any] = {"keras": keras.__version__, "backend": keras.config.backend(), "device": self._device}
        found |= of_optimizer
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            found |= {
                "tensorflow": tf.__version__,
                "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
                "threads_intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
            }
        return found

    def notes(self) -> list[str]:
        return self.islands.notes(self.side) + self.remarks

    def close(self) -> None:
        self._outside.close()
        self._made.undo()
