"""A Keras model that is already built, in the float type of the run: made again from its config, or cast in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from ...errors import PairError, UserCodeError
from ...pairs.user_code import calling
from .variables import Place, places, to_numpy

PASS_A_FUNCTION = "pass a function that builds the model, and let its layers follow keras.config.floatx()"


class Rebuilt:
    """A model made from the config of another one, which stays as it is.

    Args:
        given: built; its optimizer and its loss come along if it is compiled.

    Attributes:
        model: the new one.

    Raises:
        UserCodeError: it cannot be made from its config.
    """

    def __init__(self, given: keras.Model) -> None:
        self._given = given
        kinds = {type(layer).__name__: type(layer) for layer in given._flatten_layers()}
        own = {name: kind for name, kind in kinds.items() if not kind.__module__.startswith("keras.")}
        with _making(), keras.saving.custom_object_scope(own):
            again: Callable[[Any], Any] = type(given).from_config
            self.model: Any = again(given.get_config())
            if given.compiled:
                self.model.compile_from_config(given.get_compile_config())
        self._filled = False

    def fill(self) -> None:
        """Give the new model the weights, once it has variables.

        Raises:
            PairError: it has others than the model that was given, or they are tied otherwise.
        """
        if self._filled or not self.model.variables:
            return
        self._filled = True
        own, new = places(self._given), places(self.model)
        if not own:  # never called: it has no weights yet
            return
        if [_shape(p) for p in own] != [_shape(p) for p in new]:
            raise _not_the_same(f"{len(own)} variables, {len(new)} in the rebuilt model, or in a different order")
        ties = _ties(own) ^ _ties(new)
        if ties:
            path = own[min(min(ties))].path
            raise _not_the_same(f"{len(own)} variables; {path} is shared differently")
        for old, place in zip(own, new, strict=True):
            place.variable.assign(to_numpy(old.variable))


def _shape(place: Place) -> tuple[str, tuple[int, ...]]:
    return place.variable.name, tuple(place.variable.shape)


def _ties(held: Sequence[Place]) -> set[tuple[int, ...]]:
    """Positions of the places that hold one variable, for each variable."""
    groups: dict[int, list[int]] = {}
    for at, place in enumerate(held):
        groups.setdefault(id(place.variable), []).append(at)
    return set(map(tuple, groups.values()))


def _making() -> Any:
    return calling(
        "keras model, made again from its config in the float type of the run,",
        todo=f"give each class a get_config that returns the arguments of its __init__, or {PASS_A_FUNCTION}",
    )


def _not_the_same(numbers: str) -> PairError:
    return PairError(
        "Rebuilding this Keras model from its config gives a different model.",
        where="KerasSide.build",
        numbers=numbers,
        cause="its config is incomplete: it lacks weights or ties created outside its layers",
        todo=PASS_A_FUNCTION,
    )


class Cast:
    """A model whose variables are in another float type, in place, until `undo`: for what no config can make again.

    Args:
        model: built.
        precision: the float type.

    Raises:
        PairError: it is cast already.
    """

    _held: ClassVar[set[int]] = set()

    def __init__(self, model: keras.Model, precision: str) -> None:
        if id(model) in self._held:
            raise PairError(
                "This Keras model cannot be rebuilt in the float type of the run.",
                where="KerasSide.build",
                cause="its class has no get_config that returns the arguments of its __init__",
                todo=PASS_A_FUNCTION,
            )
        self._held.add(id(model))
        self._model: Any = model
        self._attributes = dict(vars(model))  # what compiling sets among them
        self._kept: list[tuple[Any, str, Any]] = [(v, v._dtype, v._value) for v in model.variables]
        for variable, dtype, value in self._kept:
            array = to_numpy(value)
            variable._dtype = precision if "float" in dtype else dtype
            variable._initialize(keras.ops.convert_to_tensor(array, variable._dtype))
        self._forget_functions()
        if model.compiled:
            with _making():
                self._model.compile_from_config(model.get_compile_config())

    def _forget_functions(self) -> None:
        """What was compiled holds on to the variables as they were."""
        self._model.train_function = self._model.test_function = self._model.predict_function = None

    def undo(self) -> None:
        """Give every variable back what it held."""
        if id(self._model) not in self._held:
            return
        self._held.remove(id(self._model))
        for variable, dtype, value in self._kept:
            variable._dtype, variable._value = dtype, value
        vars(self._model).update(self._attributes)
        self._forget_functions()


@dataclass(frozen=True)
class Made:
    """A model in the float type of a run.

    Attributes:
        model: to run.
        fill: gives it its weights as soon as it has variables.
        undo: leaves the caller's model as it was.
        given: it existed before the run, so that no initializer may have drawn its weights.
    """

    model: keras.Model
    fill: Callable[[], None] = lambda: None
    undo: Callable[[], None] = lambda: None
    given: bool = False


def in_float_type(model: keras.Model, precision: str, *, existed: bool) -> Made:
    """A model in the float type of a run.

    Args:
        model: that the pair gave.
        precision: the float type.
        existed: before the run, so that it belongs to the caller and keeps its float type and its weights.

    Raises:
        PairError: a layer names another float type, or the model is another one when it is made again.
    """
    wrong = sorted({v._dtype for v in model.variables if "float" in v._dtype} - {precision})  # `dtype` is the run's
    if not existed and not wrong:
        return Made(model)
    try:
        again = Rebuilt(model)
    except UserCodeError:
        cast = Cast(model, precision)
        return Made(model, undo=cast.undo, given=True)
    again.fill()
    if any("float" in v._dtype and v._dtype != precision for v in again.model.variables):
        raise PairError(
            f"The Keras model has {' and '.join(wrong)} variables in a {precision} run.",
            where="KerasSide.build",
            cause="it was built before the run, and its layers keep that float type when they are rebuilt",
            todo=PASS_A_FUNCTION,
        )
    return Made(again.model, again.fill, given=True)


def in_floatx(loss: Any) -> Any:
    """A loss made before the run set its float type computes in the old one; this is a copy that does not."""
    if isinstance(loss, keras.losses.Loss):
        given, loss = loss, object.__new__(type(loss))
        vars(loss).update(vars(given))  # copy.copy goes by way of the config, which need not hold all: Huber's no delta
        loss._dtype_policy = keras.dtype_policies.get(keras.config.floatx())
        loss._dtype = loss._dtype_policy.compute_dtype
    return loss
