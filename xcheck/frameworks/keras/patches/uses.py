"""The gradient of a Keras variable, one part per use.

Inside of a stateless scope Keras asks the scope for a variable's value each time it is read. This one answers with
an alias: the same values, and a node of its own in the graph. What flows back through that node is the gradient of
this use alone. Whatever the pass assigns stays in the scope, so that it changes no state.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
from keras.src.backend.common.stateless_scope import StatelessScope

from ....pairs.pair import Batch
from ....pairs.user_code import calling
from ....records.trace import Arrays
from ....records.uses import LOSS, PENALTY, Touch, uses_of
from ...protocol import Prepared, step_seed
from ..optimizers import applying
from ..variables import canonical, layer_paths, places, to_numpy
from .dropout import dropout_off
from .training_step import Seen, loss_scale, observed

if TYPE_CHECKING:
    from ..running_side import LiveKeras


def uses(runner: LiveKeras, number: int, batch: Batch) -> Mapping[str, Arrays]:
    """Make a training step again, with every use of a variable told apart and no update.

    On TensorFlow and PyTorch it is the user's own training step, on JAX its forward pass and its loss.

    Args:
        runner: stands where the step began, and is left there.
        number: of the step.
        batch: of the step.

    Returns:
        Path of a variable -> name of the use -> gradient; variables that are tied or used several times.
    """
    made = {"tensorflow": _on_tensorflow, "torch": _on_torch, "jax": _on_jax}[keras.config.backend()]
    with runner._scope():
        ready = runner._ready(batch)
        keras.utils.set_random_seed(step_seed(runner.seed, number))
        with calling("keras training step, with its uses told apart,"), dropout_off():
            touches = made(runner, ready)
        return uses_of(_plain(runner, touches), _tied(runner.model))


@dataclass
class _Read:
    """One reading of a variable: who read it, what it got, and the gradients that came back."""

    variable: Any
    owner: str
    call: int
    alias: Any
    gradients: list[Any]


class _ToldApart(StatelessScope):
    """While active, every reading of a trained variable gives an alias of its own.

    Args:
        model: whose variables.
        alias: (value, what this pass assigned in its place or None, list for the gradients) -> alias; None where
            none can be made, and the value itself is used.
    """

    def __init__(self, model: Any, alias: Callable[[Any, Any, list[Any]], Any]) -> None:
        super().__init__(collect_losses=True, initialize_variables=False)
        self.reads: list[_Read] = []
        self._model = model
        self._alias = alias
        self._trained = {key for key, p in canonical(model).items() if p.variable.trainable and not p.buffer}
        self._stack: list[tuple[str, int]] = []
        self._outside = LOSS

    def get_current_value(self, variable: Any) -> Any:
        """What Keras takes for the variable's value; None for the one it has."""
        assigned = super().get_current_value(variable)
        if id(variable) not in self._trained:
            return assigned
        gradients: list[Any] = []
        alias = self._alias(variable._value, assigned, gradients)
        if alias is None:
            return assigned
        owner, call = self._stack[-1] if self._stack else (self._outside, 0)
        self.reads.append(_Read(variable, owner, call, alias, gradients))
        return alias

    @contextmanager
    def watching(self) -> Generator[None]:
        """Follow the calls of layers until the block ends, inside of the scope."""
        layer_class: Any = keras.layers.Layer
        model, original, penalties = self._model, layer_class.__call__, self._model._get_regularization_losses
        numbers: Counter[int] = Counter()
        paths = layer_paths(model)

        def followed(layer: Any, *args: Any, **kwargs: Any) -> Any:
            numbers[id(layer)] += 1
            name = "(the model)" if layer is model else paths.get(id(layer)) or layer.path or layer.name
            self._stack.append((name, numbers[id(layer)]))
            try:
                return original(layer, *args, **kwargs)
            finally:
                self._stack.pop()

        def followed_penalties() -> Any:
            self._outside = PENALTY
            try:
                return penalties()
            finally:
                self._outside = LOSS

        layer_class.__call__ = followed
        object.__setattr__(model, "_get_regularization_losses", followed_penalties)
        try:
            with self:
                model._clear_losses()
                yield
                model._clear_losses()
        finally:
            layer_class.__call__ = original
            object.__delattr__(model, "_get_regularization_losses")


def _tied(model: Any) -> set[str]:
    held = Counter(id(p.variable) for p in places(model))
    return {p.path for key, p in canonical(model).items() if held[key] > 1}


def _plain(runner: LiveKeras, reads: list[_Read]) -> Iterator[Touch]:
    paths = {key: place.path for key, place in canonical(runner.model).items()}
    for read in reads:
        gradients, read.gradients, read.alias = read.gradients, [], None
        gradient = to_numpy(sum(gradients[1:], gradients[0]), runner.store) if gradients else None
        yield Touch(paths[id(read.variable)], read.owner, read.call, gradient, tuple(read.variable.shape))


@contextmanager
def _without_update(runner: LiveKeras) -> Generator[None]:
    """The training step as it is observed, but its optimizer applies nothing."""
    seen = Seen()
    watch = observed(runner.model, seen, runner._picked, runner._named_outputs, runner.projected)
    with watch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        try:
            with applying(runner.model, lambda *_: lambda *_, **__: None):
                yield
        finally:
            seen.forget()


def _tensors(ready: Prepared) -> tuple[Any, ...]:
    return tuple(keras.tree.map_structure(_tensor, part) for part in ready)


def _tensor(value: Any) -> Any:
    return None if value is None else keras.ops.convert_to_tensor(value)


def _on_tensorflow(runner: LiveKeras, ready: Prepared) -> list[_Read]:
    import tensorflow as tf

    def alias(value: Any, assigned: Any, _: list[Any]) -> Any:
        if not tf.executing_eagerly():  # a graph that is being made: what happens in it is out of reach
            return None
        if assigned is not None:  # the variable stays among the inputs, since a tape follows nothing else
            value = tf.where(True, tf.stop_gradient(assigned), value)
        return tf.identity(value)

    told = _ToldApart(runner.model, alias)
    tape_class: Any = tf.GradientTape
    original = tape_class.gradient
    scale: Any = loss_scale(runner.model.optimizer)

    def gradient(tape: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        asked = {id(s) for s in keras.tree.flatten(sources)}
        reads = [r for r in told.reads if id(r.variable) in asked]
        often = Counter(id(r.variable) for r in reads)
        # What is read once has the gradient of its alias, and TensorFlow never frees what it returns in two places.
        alone = {id(r.variable): r for r in reads if often[id(r.variable)] == 1}
        several = [r for r in reads if id(r.variable) not in alone]

        def source(s: Any) -> Any:
            held = s._value if isinstance(s, keras.Variable) else s
            return alone[id(s)].alias if id(s) in alone else held

        own: Any = keras.tree.map_structure(source, sources)
        own, through = original(tape, target, [own, [r.alias for r in several]], *args, **kwargs)
        by_source = zip(keras.tree.flatten(sources), keras.tree.flatten(own), strict=True)
        given = {id(s): found for s, found in by_source if id(s) in alone}
        for read, found in [
            *((alone[key], found) for key, found in given.items()),
            *zip(several, through, strict=True),
        ]:
            if found is not None:
                found: Any = tf.convert_to_tensor(found)
                read.gradients.append(found if scale is None else found / keras.ops.cast(scale, found.dtype))
        return own

    tape_class.gradient = gradient
    try:
        with _without_update(runner), told.watching():
            runner.model.train_step(runner._handed_over.data(_tensors(ready)))
    finally:
        tape_class.gradient = original
    return told.reads


def _on_torch(runner: LiveKeras, ready: Prepared) -> list[_Read]:
    import torch

    scale = loss_scale(runner.model.optimizer)

    def alias(value: Any, assigned: Any, gradients: list[Any]) -> Any:
        if not torch.is_grad_enabled():
            return value if assigned is None else assigned
        alias: Any = torch.ops.aten.alias(value) if assigned is None else assigned.detach().requires_grad_()
        alias.register_hook(lambda g: gradients.append(g.detach() / (1 if scale is None else scale.value)))
        return alias

    told = _ToldApart(runner.model, alias)
    held = [(v.value, v.value.grad) for v in runner.model.trainable_variables]
    with _without_update(runner), told.watching():
        runner.model.train_step(runner._handed_over.data(_tensors(ready)))
    for parameter, gradient in held:
        parameter.grad = gradient
    return told.reads


def _on_jax(runner: LiveKeras, ready: Prepared) -> list[_Read]:
    import jax  # pyright: ignore[reportMissingImports]

    def total(told: _ToldApart) -> Any:
        with told.watching():
            return runner._total(ready, runner._call(ready.inputs, training=True), training=True)

    told = _ToldApart(runner.model, lambda value, assigned, _: value if assigned is None else assigned)
    total(told)

    def of(values: list[Any]) -> Any:
        given = iter(values)
        return total(_ToldApart(runner.model, lambda *_: next(given)))

    for read, gradient in zip(told.reads, jax.grad(of)([r.alias for r in told.reads]), strict=True):
        read.gradients.append(gradient)
    return told.reads
