"""The ways a Keras model is saved and loaded.

Keras saves a variable with the layer that made it. A layer that is used several times, or that another layer holds as
a donor, is one layer in the file and after loading, as long as the config of the other layer holds the donor as a
serialized object: inside of one `.keras` file Keras gives equal objects one identity. `clone_model` and `from_config`
make every layer by itself; the documentation of `clone_model` says so: "a single variable attached to two distinct
layers will be restored as two separate variables".
"""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional

from ...errors import UserCodeError
from ...pairs.pair import Batch
from ...pairs.user_code import calling
from ...records.islands import Islands
from ...records.reload import Route, carried
from ..protocol import EAGER, Loaded
from ..tree import AttributeValue, attribute_values
from .patches.precision import layer_of
from .variables import to_numpy

ROUTES = (
    Route(".keras", keeps_optimizer=True),
    Route(".weights.h5", keeps_optimizer=True),
    Route("clone_model", unties="variables"),
    Route("from_config", unties="variables"),
)
"""`clone_model` and `from_config` are followed by `set_weights`."""


class KerasPersistence:
    """Saves a `KerasRunner` and loads it.

    Args:
        runner: the side as it stands.
    """

    routes: Sequence[Route] = ROUTES

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def reload(self, route: Route, folder: Path, batch: Batch) -> Loaded:
        take: Callable[[Path, Batch], tuple[Any, bool, list[str]]] = {
            ".keras": self._keras_file,
            ".weights.h5": self._weights_file,
            "clone_model": self._clone,
            "from_config": self._from_config,
        }[route.name]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with _advising(f"keras model, saved and loaded by {route.name},"):
                made, optimizer_kept, remarks = take(folder, batch)
        told = [f"warned: {one.message}" for one in said if not issubclass(one.category, DeprecationWarning)]
        return Loaded(made, optimizer_kept, list(dict.fromkeys(remarks + told)))

    def _keras_file(self, folder: Path, batch: Batch) -> tuple[Any, bool, list[str]]:
        file, handed = folder / "model.keras", self._compiled_with()
        with self._runner._scope():
            self._runner.model.save(file)
        made = self._bare()
        with made._scope():
            model: Any = keras.saving.load_model(file, custom_objects=handed, safe_mode=True)
            made.model, compiled = model, hasattr(model, "optimizer")  # Keras says `compiled` even where it was not
            if compiled:
                made._set_mode(EAGER)
            else:
                self._compile_as_ours(made)
        made.prime(batch)
        remarks = [f"{', '.join(handed)} given to load_model as custom_objects"] if handed else []
        return made, compiled, remarks if compiled else [*remarks, "the file does not contain the compile settings"]

    def _weights_file(self, folder: Path, batch: Batch) -> tuple[Any, bool, list[str]]:
        file = folder / "model.weights.h5"
        with self._runner._scope():
            self._runner.model.save_weights(file)
        made = self._fresh(batch)
        with made._scope():
            made.model.load_weights(file)
        return made, True, []

    def _clone(self, folder: Path, batch: Batch) -> tuple[Any, bool, list[str]]:
        return self._rebuilt(keras.models.clone_model, batch)

    def _from_config(self, folder: Path, batch: Batch) -> tuple[Any, bool, list[str]]:
        return self._rebuilt(lambda model: type(model).from_config(model.get_config()), batch)

    def _rebuilt(self, again: Callable[[Any], Any], batch: Batch) -> tuple[Any, bool, list[str]]:
        """A model made from the config of ours, compiled anew, with our weights."""
        ours, made = self._runner, self._bare()
        with made._scope():
            with keras.saving.custom_object_scope(self._compiled_with()):  # clone_model compiles, too
                made.model = again(ours.model)
            self._compile_as_ours(made)
        made.prime(batch)
        if len(made.model.weights) == len(ours.model.weights):
            with made._scope():
                made.model.set_weights(ours.model.get_weights())
            return made, False, []
        made.write(carried(ours.read(), ours.inventory(), made.inventory(), slots=False))
        counts = f"{len(ours.model.weights)} weights for {len(made.model.weights)}"
        return made, False, [f"set_weights refuses {counts}; the values were set path by path"]

    def _bare(self) -> Any:
        """The side without its model."""
        made = copy.copy(self._runner)
        made._names, made._mode, made.islands = defaultdict(int), EAGER, Islands(layer_of)
        return made

    def _fresh(self, batch: Batch) -> Any:
        """The side built anew, from other random numbers."""
        ours = self._runner
        device = "cpu" if ours._device.startswith("cpu") else "cuda"
        made = type(ours)(ours.declared, precision=ours.precision, device=device, seed=ours.seed + 1, store=ours.store)
        made.seed = ours.seed
        if made.model is ours.model:
            raise UserCodeError(
                "KerasSide.build returns the same model every time.",
                cause="there is no fresh model to load into",
                todo="build must return a new model at each call",
            )
        made.prime(batch)
        return made

    def _compile_as_ours(self, made: Any) -> None:
        """Compile a model that is not, the way ours is."""
        declared = self._runner.declared
        if declared.loss is not None or declared.optimizer is not None or not self._runner.model.compiled:
            made._compile()
            return
        with keras.saving.custom_object_scope(self._compiled_with()):
            made.model.compile_from_config(self._runner.model.get_compile_config())
        made._set_mode(EAGER)

    def _compiled_with(self) -> dict[str, Any]:
        """Functions and classes that the model is compiled with and that are not Keras's own; by name.

        They are the pair's, not the model's: whoever loads the model has them at hand, and hands them over.
        """
        config = getattr(self._runner.model, "_compile_config", None)
        parts = keras.tree.flatten(dict(config.config)) if config is not None else []
        rate = getattr(self._runner.model.optimizer, "_learning_rate", None)
        found: dict[str, Any] = {}
        for part in [*parts, rate]:
            thing = part if isinstance(part, FunctionType | type) else type(part)
            root = str(thing.__module__).partition(".")[0]
            theirs = root not in ("keras", "builtins") and isinstance(part, (*_COMPILED, FunctionType, type))
            if theirs and found.setdefault(thing.__name__, thing) is not thing:
                raise UserCodeError(
                    f"The keras model is compiled with two objects called {thing.__name__!r}.",
                    cause="the file identifies them only by name",
                    todo=f"give each its own name, or {_REGISTER}",
                )
        return found

    @contextmanager
    def restarted(self) -> Generator[None]:
        runner = self._runner
        kept = runner.model.optimizer
        if kept is None:
            yield
            return
        with runner._scope():
            declared = runner.declared
            if declared.optimizer is None:
                fresh = type(kept).from_config(kept.get_config())
            else:
                with calling("keras optimizer"):
                    fresh = declared.optimizer()
            if runner.model.trainable_variables:
                fresh.build(runner.model.trainable_variables)
            runner.model.optimizer = fresh
            runner._set_mode(EAGER)
        try:
            yield
        finally:
            with runner._scope():
                runner.model.optimizer = kept
                runner._set_mode(EAGER)

    def unsaved(self, route: Route) -> Sequence[str]:
        return ()

    def forgotten(self) -> Mapping[str, tuple[Any, Any]]:
        model = self._runner.model
        parts = [*_saved_by_config(model), *([] if model.optimizer is None else [model.optimizer])]
        return {f"{part.name}.{name}": values for part in parts for name, values in _left_out(part).items()}

    def attributes(self) -> Mapping[str, Any]:
        return {held.path: _copied(held.value) for held in self._held()}

    def mend(self, attributes: Mapping[str, Any]) -> None:
        with self._runner._scope():
            for held in self._held():
                value = attributes.get(held.path, held.value)
                if isinstance(held.value, keras.Variable):
                    if isinstance(value, np.ndarray) and tuple(held.value.shape) == value.shape:
                        held.value.assign(value)
                elif keras.ops.is_tensor(held.value):
                    held.put(keras.ops.convert_to_tensor(value, held.value.dtype))
                elif not isinstance(held.value, tuple):
                    held.put(value)

    def _held(self) -> list[AttributeValue]:
        model = self._runner.model
        state = {id(v) for v in [*model.variables, *getattr(model.optimizer, "variables", [])]}
        own = _own_attributes()
        found: list[AttributeValue] = []
        names: dict[str, int] = defaultdict(int)
        for layer in {id(layer): layer for layer in model._flatten_layers()}.values():
            names[layer.name] += 1  # the path of a layer says how it was built, not where it is
            name = layer.name if names[layer.name] == 1 else f"{layer.name}#{names[layer.name]}"
            found += attribute_values(layer, name, own, _is_value, _foreign)
        return [held for held in found if id(held.value) not in state and "._self_" not in held.path]


def _saved_by_config(model: Any) -> list[Any]:
    """The layers whose config is in that of the model; a class with a config of its own builds its layers itself."""
    if type(model) not in (keras.Sequential, Functional):
        return []
    return [part for layer in model.layers for part in (layer, *_saved_by_config(layer))]


def _left_out(part: Any) -> dict[str, tuple[Any, Any]]:
    """Arguments of `__init__` that the user's `get_config` does not return: name -> value, and default.

    An argument is the attribute of its name, with or without an underscore.
    """
    kind = type(part)
    by_keras = [method.__module__.startswith("keras.src.") for method in (kind.get_config, kind.from_config)]
    if by_keras != [False, True]:
        return {}
    config, found = dict[str, Any](), dict[str, tuple[Any, Any]]()
    with suppress(UserCodeError), calling(f"get_config of {part.name}"):
        config = part.get_config()
    if not config:
        return {}
    for name, argument in inspect.signature(kind.__init__).parameters.items():
        value = getattr(part, name, getattr(part, f"_{name}", None))
        plain = type(value) in (bool, int, float, str) and type(argument.default) in (bool, int, float, str)
        if plain and name not in config and value != argument.default:
            found[name] = value, argument.default
    return found


_COMPILED = (
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.losses.Loss,
    keras.metrics.Metric,
)


@cache
def _own_attributes() -> frozenset[str]:
    """What every layer and every model keeps for Keras's own purposes."""
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    plain.compile("sgd", "mse")
    graph = keras.Model(plain.inputs, plain.outputs)
    return frozenset({*vars(plain.layers[0]), *vars(plain), *vars(graph)})


def _is_value(value: Any) -> bool:
    return isinstance(value, keras.Variable | np.ndarray) or bool(keras.ops.is_tensor(value))


def _foreign(value: Any) -> bool:
    """Objects that are not looked into: layers have a turn of their own, and initializers have done their work."""
    if isinstance(value, keras.regularizers.Regularizer | keras.constraints.Constraint):
        return False
    return type(value).__module__.partition(".")[0] in ("keras", "tensorflow", "jax", "jaxlib", "torch", "numpy")


def _copied(value: Any) -> Any:
    if isinstance(value, keras.Variable) or keras.ops.is_tensor(value):
        return to_numpy(value)
    return np.array(value) if isinstance(value, np.ndarray) else value


@contextmanager
def _advising(what: str) -> Generator[None]:
    """Turn Keras's messages about what it cannot save or find into one sentence and its remedy.

    Raises:
        UserCodeError: the block raised.
    """
    try:
        with calling(what):
            yield
    except UserCodeError as error:
        text = str(error.__cause__ or error)
        for pattern, todo in _ADVICE:
            found = re.search(pattern, text, re.DOTALL)
            if found is not None:
                kind = type(error.__cause__).__name__
                cause = " ".join(found[0].split())
                raise UserCodeError(f"The pair's {what} raised {kind}.", cause=cause, todo=todo) from error
        raise


_REGISTER = '@keras.saving.register_keras_serializable("package")'
_ADVICE = (
    (r"Could not locate (class|function) '[^']+'", f"decorate it with {_REGISTER}"),
    (r"must override `get_config\(\)`", "give the class a get_config that returns the arguments of its __init__"),
    (r"[^.]*Python lambda", f"give the function a name, and decorate it with {_REGISTER}"),
    (
        r"Layer '[^']+' expected \d+ variables?, but received \d+ variables?",
        "a layer inside a different one must be the same layer after loading: put it into the config with "
        "keras.saving.serialize_keras_object and take it out with deserialize_keras_object",
    ),
)
"""What Keras says -> what to do about it."""
