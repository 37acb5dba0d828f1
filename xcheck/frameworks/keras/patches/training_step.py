"""Watching the user's own Keras training step from its seams.

Keras has no hooks. What a training step does passes through three places, whatever the model overrides: the loss
(`compute_loss`, which receives the outputs), the compiled loss inside it, and the optimizer's `apply`, which
receives the gradients. For the length of one step each of them is wrapped; the wrappers hand on exactly what they
got.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from ....records.trace import Array
from ...compared_outputs import nothing_to_differentiate
from ...protocol import losses_record, projection
from ...step_terms import returned_terms, step_record
from ..optimizers import applying
from ..variables import canonical, to_numpy
from .tapes import recording, taped


@dataclass
class Seen:
    """What the wrappers of one step saw, as backend tensors until the step is over; one entry per loss.

    Attributes:
        outputs: by name.
        called: likewise, of each call of the model, for a step of its own that makes its loss without `compute_loss`.
        recorded: whether gradients were being recorded in each of these.
        gradients: id of the variable -> gradient, or None.
        taped: likewise, of what a step of its own differentiated last, for weights that it changes by itself.
        penalties: by the path of the variable, or "add_loss_<i>".
        data: the compiled loss, without penalties.
        total: what was differentiated.
    """

    outputs: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    called: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    recorded: list[bool] = field(default_factory=list[bool])
    gradients: dict[int, Any] = field(default_factory=dict[int, Any])
    taped: dict[int, Any] = field(default_factory=dict[int, Any])
    penalties: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    data: list[Any] = field(default_factory=list[Any])
    total: list[Any] = field(default_factory=list[Any])

    def calls(self) -> list[dict[str, Array]]:
        """The outputs of each call of the model."""
        return [{name: to_numpy(t) for name, t in call.items()} for call in self.outputs or self.called]

    def differentiated(self) -> list[bool]:
        """Whether gradients were recorded in each of `calls`; a loss is always of such a call."""
        return [True] * len(self.outputs) or self.recorded

    def forget(self) -> None:
        """Let go of everything; what watched the step may live on for a while."""
        for held in (self.outputs, self.called, self.recorded, self.penalties, self.data, self.total):
            held.clear()
        self.gradients.clear()
        self.taped.clear()

    def gradient(self, variable: Any) -> Any:
        """Of a variable: what its optimizer was given, else what the step differentiated last."""
        if id(variable) in self.gradients:
            return self.gradients[id(variable)]
        return self.taped.get(id(variable), self.taped.get(id(variable.value)))

    def tape(self, source: Any, gradient: Any) -> None:
        """Keep a gradient of a variable, or of what a variable holds."""
        self.taped[id(source)] = gradient

    def losses(self, reported: Mapping[str, Any], own_step: bool = False) -> dict[str, Array]:
        """The loss terms, as for `StepRecord.losses`.

        Args:
            reported: what the step returned. Where it made no loss that was seen, or several, the terms and the total
                are those that it says: only it knows what it did with them.
            own_step: the model has a `train_step` of its own.
        """
        if len(self.total) != 1:
            said = reported if own_step else {name: v for name, v in reported.items() if name == "loss"}
            return dict(step_record(returned_terms(said, _as_array)))
        if not self.data:  # a `compute_loss` of the model's own: only it knows what of it is a penalty
            return {"total": to_numpy(self.total[0])}
        data = {"": to_numpy(self.data[-1])}
        penalties = {name: to_numpy(term) for name, term in self.penalties[0].items()}
        return dict(losses_record(data, penalties, to_numpy(self.total[0])))


@contextmanager
def observed(
    model: Any,
    seen: Seen,
    pick: Callable[[Any], Any],
    named: Callable[[Any], dict[str, Any]],
    projected: bool,
) -> Generator[None]:
    """Watch the model's training step while the block runs.

    Args:
        model: compiled.
        seen: filled in.
        pick: the side's `outputs`, applied before the loss sees what the model returned.
        named: tensors by name of what was picked.
        projected: the pair has no loss; take the fixed projection of the outputs.
    """
    compute_loss, compiled_loss = model.compute_loss, model._compile_loss
    judged: list[list[Any]] = []

    def watched_loss(x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any) -> Any:
        picked = pick(y_pred)
        outputs = named(picked)
        returned = keras.tree.flatten(y_pred)
        if not any(_same(returned, known) for known in judged):  # two losses may judge the outputs of one call
            judged.append(returned)
            _tell(seen, outputs=outputs)
        if projected:
            _tell(seen, data=_projection(outputs))
            total = projected_loss(model, outputs)
        else:
            total = compute_loss(x, y, picked, *args, **kwargs)
        _tell(seen, total=total, penalties=_penalties(model))
        return total

    def watching(optimizer: Any, apply: Callable[..., Any]) -> Callable[..., Any]:
        def watched_apply(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            variables = None if trainable_variables is None else list(trainable_variables)
            known = optimizer._trainable_variables if variables is None else variables
            scale = loss_scale(optimizer)
            unscaled = [g if g is None or scale is None else g / keras.ops.cast(scale, g.dtype) for g in grads]
            seen.gradients |= {id(v): g for v, g in zip(known, unscaled, strict=True)}
            return apply(grads, variables)

        return watched_apply

    own_step, call, replaced = has_own_step(model), model.call, vars(model).get("call")

    @functools.wraps(call)
    def watched_call(*args: Any, **kwargs: Any) -> Any:
        raw = call(*args, **kwargs)
        _tell(seen, called=named(pick(raw)), recorded=recording())
        return raw

    class WatchedLoss:
        """Stands in for the compiled loss, keeps what it returns, and is otherwise the compiled loss."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            data = compiled_loss(*args, **kwargs)
            _tell(seen, data=data)
            return data

        def __getattr__(self, name: str) -> Any:
            return getattr(compiled_loss, name)

    # object.__setattr__ keeps Keras from tracking the wrappers as state of the model.
    object.__setattr__(model, "compute_loss", watched_loss)
    if own_step:
        object.__setattr__(model, "call", watched_call)
    if compiled_loss is not None:
        object.__setattr__(model, "_compile_loss", WatchedLoss())
    try:
        with applying(model, watching), taped(seen.tape) if own_step else nullcontext():
            yield
    finally:
        object.__delattr__(model, "compute_loss")
        if own_step and replaced is not None:
            object.__setattr__(model, "call", replaced)
        elif own_step:
            object.__delattr__(model, "call")
        object.__setattr__(model, "_compile_loss", compiled_loss)


def _as_array(value: Any) -> Any:
    return keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value


def has_own_step(model: Any) -> bool:
    """Whether the model's class says what a training step is."""
    return type(model).train_step is not keras.Model.train_step


def has_call(model: Any) -> bool:
    """Whether a model is more than the step of its class: one without a step must be called."""
    return getattr(model.call, "__func__", None) is not keras.Model.call or not has_own_step(model)


def makes_own_loss(model: Any) -> bool:
    """Whether the model's class says what its loss is, or its step, so that none needs to be compiled."""
    return type(model).compute_loss is not keras.Model.compute_loss or has_own_step(model)


def _same(parts: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(parts) == len(others) and all(a is b for a, b in zip(parts, others, strict=True))


def loss_scale(optimizer: Any) -> Any:
    """What the loss was multiplied by before it was differentiated; the optimizer divides by it again."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.dynamic_scale
    return optimizer.loss_scale_factor


def _tell(seen: Seen, **values: Any) -> None:
    """Keep what a wrapper sees. JAX traces the loss, so there the values come by a callback, once they are known."""
    if in_symbolic_scope() or in_graph():  # Keras builds the loss, or compiles the step: the tensors hold nothing
        return

    def keep(found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            getattr(seen, name).append(value)

    if keras.config.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        jax.debug.callback(keep, values)
    else:
        keep(values)


def in_graph() -> bool:
    """Whether a graph is being made of the step: its tensors hold nothing."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


def projected_loss(model: Any, named: Mapping[str, Any]) -> Any:
    """The fixed projection of the outputs and the model's own penalties, where the pair has no loss.

    Args:
        model: that made the outputs.
        named: its outputs by name.
    """
    total = _projection(named)
    for term in model.losses:
        total = total + keras.ops.sum(term)
    return total


def _projection(named: Mapping[str, Any]) -> Any:
    terms: list[Any] = [
        keras.ops.sum(t * keras.ops.convert_to_tensor(projection(_alone(name, named), tuple(t.shape)), t.dtype))
        for name, t in named.items()
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(t.dtype))
    ]
    if not terms:
        raise nothing_to_differentiate("keras", named)
    return sum(terms[1:], terms[0])


def _alone(name: str, named: Mapping[str, Any]) -> str:
    """A lone output goes by one name in both frameworks."""
    return name if len(named) > 1 else "output"


def _penalties(model: Any) -> dict[str, Any]:
    """Penalty terms as Keras lists them: those of `add_loss` first, then one per regularized variable."""
    regularized = [v for v in model.trainable_weights if v.regularizer is not None]
    terms = list(model.losses)
    added, per_variable = terms[: len(terms) - len(regularized)], terms[len(terms) - len(regularized) :]
    held = canonical(model)
    found = {f"add_loss_{i}": keras.ops.sum(term) for i, term in enumerate(added)}
    return found | {held[id(v)].path: term for v, term in zip(regularized, per_variable, strict=True)}
