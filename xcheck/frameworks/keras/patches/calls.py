"""Every call of a Keras layer in one forward pass, and of the functions inside of them.

Keras has no forward hooks; `keras.layers.Layer.__call__` is wrapped for the length of the pass. Calls nest, so that a
stack tells which was made in which.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import keras
import numpy as np

from ....pairs.user_code import calling, leaving_out, line_running
from ....records.calls import LOSS, Again, Call, Calls, Inside, Swap, nowhere, plain
from ....records.trace import Array
from ...protocol import Passing
from ...tree import replaced, tensors_in
from ..variables import canonical, kind_of, layer_paths, to_numpy
from .functions import functions_shown


class Enough(Passing):
    """What was asked for has been computed; no library turns it into something else."""


class Past:
    """A forward pass, kept to be made again from somewhere on."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.returned: dict[int, tuple[Any, int]] = {}  # index -> what the call returned, and what was entered next

    def until(self, first: int) -> set[int]:
        """The calls that had ended when the given one was entered."""
        around, at = set[int](), self.calls.get(first)
        while at is not None and at.parent is not None:
            around.add(at.parent)
            at = self.calls.get(at.parent)
        return {index for index in self.returned if index < first} - around

    def within(self, index: int) -> Calls:
        """A call and those that were made in it, in the order in which they ended."""
        return tuple(call for call in self.calls.values() if index <= call.index < self.returned[index][1])


class Watch:
    """Records the calls of a model's layers while `recording`.

    Args:
        model: built.
        swap: may replace what a call returns.
        inside: in which layers the functions are recorded too.
        again: keeps the pass, or makes a part of a kept one again.

    Attributes:
        made: the calls that have ended.
        tensors: index of a call -> its outputs as backend tensors, for the gradients.
        tape: of TensorFlow, told of them, so that those have gradients too that no variable was needed for.
    """

    def __init__(
        self, model: keras.Model, swap: Swap | None = None, inside: Inside = nowhere, again: Again | None = None
    ) -> None:
        self.model = model
        self.made: list[Call] = []
        self.tensors: dict[int, dict[str, Any]] = {}
        self.tape: Any = None
        self._swap, self._inside = swap, inside
        self._last = again.last if again else None
        self._past: Past | None = None
        self._kept: Past | None = None
        self._before: set[int] = set()
        if again is not None and again.first:
            self._past, self._before = again.past, again.past.until(again.first)
        elif again is not None:
            again.past = self._kept = Past()
        self._open: list[tuple[int, str, dict[str, Any]]] = []
        self._in_function = False
        self._entered = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._arrays: dict[int, tuple[Any, Array]] = {}
        self._settings: dict[int, Mapping[str, Any]] = {}
        self._unseen: dict[int, dict[str, None]] = {}  # index -> parameters of what was only traced inside of it
        self._paths = layer_paths(model)
        held = ((p.path, thing) for p in canonical(model).values() for thing in (p.variable, p.variable._value))
        self._weights = {id(thing): (path, thing) for path, thing in held}  # held, so that no id is used again

    @contextmanager
    def recording(self) -> Generator[None]:
        """Watch the layers until the block ends."""
        layer_class: Any = keras.layers.Layer
        original = layer_class.__call__

        def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
            return self._layer(original, layer, args, kwargs)

        with ExitStack() as stack:
            layer_class.__call__ = watched
            stack.callback(setattr, layer_class, "__call__", original)
            if self._inside is not nowhere:
                stack.enter_context(self._reading())
                stack.enter_context(functions_shown(self._function))
            with suppress(Enough):
                yield

    @contextmanager
    def _reading(self) -> Generator[None]:
        """Recognize the tensor that a variable is read as: `variable * x` hands that to the function."""
        variable: Any = keras.Variable
        own = vars(variable).get("value")
        read = variable.value.fget

        def watched(of: Any) -> Any:
            value = read(of)
            if id(of) in self._weights:
                self._weights[id(value)] = self._weights[id(of)][0], value
            return value

        variable.value = property(watched)
        try:
            yield
        finally:
            if own is None:
                del variable.value
            else:
                variable.value = own

    @contextmanager
    def recording_loss(self, given: Any) -> Generator[dict[str, Any]]:
        """Watch what is computed until the block ends as one call; the block fills in what comes out."""
        outputs: dict[str, Any] = {}
        self._enter(LOSS, tensors_in(given, keras.ops.is_tensor))
        with functions_shown(self._function) if self._inside is not nowhere else ExitStack():
            yield outputs
        self._ended(self._open.pop(), LOSS, "loss", outputs, outputs, (), {})

    def _enter(self, path: str, tensors: Mapping[str, Any]) -> None:
        inputs = {name: self._array(t) for name, t in tensors.items()}
        self._open.append((self._entered, path, inputs))
        self._entered += 1

    def _array(self, tensor: Any) -> Array:
        """A copy; one for all calls that see the tensor. A variable may have changed in between."""
        if isinstance(tensor, keras.Variable) or id(tensor) not in self._arrays:
            self._arrays[id(tensor)] = tensor, to_numpy(tensor)
        return self._arrays[id(tensor)][1]

    def _layer(self, original: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        given = tensors_in({str(i): a for i, a in enumerate(args)} | kwargs, _readable)
        if _traced(given):
            self._traced_with(self._held(layer))
            return original(layer, *args, **kwargs)
        if self._past is not None and self._entered in self._before:
            return self._repeated(self._past)
        path = "" if layer is self.model else self._paths.get(id(layer)) or layer.path or layer.name
        self._enter(path, given)
        within, self._in_function = self._in_function, False
        try:
            raw = original(layer, *args, **kwargs)
        finally:
            entered = self._open.pop()
            self._in_function = within
        tensors = tensors_in(raw, keras.ops.is_tensor)
        if not tensors or _traced(tensors):
            return raw
        held = tuple(dict.fromkeys((*self._held(layer), *self._unseen.pop(entered[0], ()))))
        seen = self._ended(entered, path, kind_of(layer), raw, tensors, held, self._settings_of(layer))
        if self._kept is not None:
            self._kept.calls[entered[0]] = self.made[-1]
            self._kept.returned[entered[0]] = seen, self._entered
        if entered[0] == self._last:
            raise Enough
        return seen

    def _repeated(self, past: Past) -> Any:
        """What a call returned in a kept pass, without computing it."""
        raw, following = past.returned[self._entered]
        for call in past.within(self._entered):
            self.made.append(call)
            self._numbers[call.path, ""] = call.number
        self._entered = following
        return raw

    def _function(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function of the backend; those that it calls in turn are not seen."""
        path = self._open[-1][1] if self._open else None
        if self._in_function or path is None or not (path == LOSS or self._inside(path)):
            return function(*args, **kwargs)
        given = {str(i): a for i, a in enumerate(args)} | kwargs
        tensors = tensors_in(given, _readable)
        used = {n: self._weights[id(t)][0] for n, t in tensors.items() if id(t) in self._weights}
        tensors = {n: t for n, t in tensors.items() if n not in used}
        if _traced(tensors):
            self._traced_with(used.values())
            return function(*args, **kwargs)
        self._enter(path, tensors)
        self._in_function = True
        try:
            raw = function(*args, **kwargs)
        finally:
            entered = self._open.pop()
            self._in_function = False
        made = tensors_in(raw, keras.ops.is_tensor)
        if not made or _traced(made):
            return raw
        return self._ended(entered, path, name, raw, made, tuple(used.values()), given, function=True)

    def _ended(
        self,
        entered: tuple[int, str, dict[str, Any]],
        path: str,
        kind: str,
        raw: Any,
        tensors: Mapping[str, Any],
        held: tuple[str, ...],
        settings: Mapping[str, Any],
        function: bool = False,
    ) -> Any:
        index, _, inputs = entered
        key = (path, kind if function else "")
        self._numbers[key] = self._numbers.get(key, 0) + 1
        call = Call(
            index=index,
            parent=self._open[-1][0] if self._open else None,
            path=path,
            kind=kind,
            number=self._numbers[key],
            inputs=inputs,
            outputs={name: self._array(t) for name, t in tensors.items()},
            parameters=held,
            settings=plain(settings),
            function=function,
            line=line_running() if function else "",
        )
        self.made.append(call)
        others = self._swap(call) if self._swap else None
        if others is None:
            self.tensors[index] = dict(tensors)
            if self.tape is not None:
                for tensor in tensors.values():
                    if tensor.dtype.is_floating:
                        self.tape.watch(tensor)
            return raw
        made = {n: keras.ops.convert_to_tensor(np.array(a), tensors[n].dtype) for n, a in others.items()}
        return replaced(raw, made, keras.ops.is_tensor)

    def _traced_with(self, parameters: Iterable[str]) -> None:
        """Parameters of something without values to read, such as the step of a loop: the call around takes them."""
        if self._open:
            self._unseen.setdefault(self._open[-1][0], {}).update(dict.fromkeys(parameters))

    def _held(self, layer: Any) -> tuple[str, ...]:
        held = [*layer._trainable_variables, *layer._non_trainable_variables]
        return tuple(self._weights[id(v)][0] for v in held if id(v) in self._weights)

    def _settings_of(self, layer: Any) -> Mapping[str, Any]:
        if id(layer) not in self._settings:
            config: Mapping[str, Any] = {}
            with leaving_out([], "settings"), calling("get_config"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as one about a lambda, which nobody reloads here
                config = layer.get_config()  # a layer may have none, or a broken one: nothing else asks for it
            self._settings[id(layer)] = plain(vars(layer)) | plain(config)
        return self._settings[id(layer)]


def differentiated(total: Callable[[], Any], watch: Watch) -> dict[int, Mapping[str, Any]]:
    """Index of a call -> gradient of the total loss with respect to each of its outputs, where there is one.

    Args:
        total: makes the recorded forward pass and returns the loss.
        watch: that records it.
    """
    backend = keras.config.backend()
    if backend == "jax":  # what is differentiated there is a function of its inputs, not of what happens inside
        total()
        return {}
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as watch.tape:
            loss = total()
        tape, watch.tape = watch.tape, None
        wanted = _floating(watch)
        found: Any = tape.gradient(loss, [t for _, _, t in wanted])
    else:
        import torch

        loss = total()
        wanted = [w for w in _floating(watch) if w[2].requires_grad]
        if not wanted or not loss.requires_grad:  # what the loss is made of was replaced
            return {}
        found = torch.autograd.grad(loss, [t for _, _, t in wanted], allow_unused=True)
    by_call: dict[int, dict[str, Any]] = {}
    for (index, name, _), gradient in zip(wanted, found, strict=True):
        if gradient is not None:
            by_call.setdefault(index, {})[name] = to_numpy(gradient)
    return dict(by_call)


def _floating(watch: Watch) -> list[tuple[int, str, Any]]:
    every = [(i, name, t) for i, named in watch.tensors.items() for name, t in named.items()]
    return [w for w in every if keras.backend.is_float_dtype(keras.backend.standardize_dtype(w[2].dtype))]


def _traced(tensors: Mapping[str, Any]) -> bool:
    """Whether some have no values to read: Keras or a compiler only traces their shapes."""
    return any(_symbolic(t) for t in tensors.values())


def _readable(thing: Any) -> bool:
    """Whether a function of the backend takes it as a tensor: a variable is one itself on TensorFlow alone."""
    return isinstance(thing, keras.Variable) or bool(keras.ops.is_tensor(thing))


def _symbolic(tensor: Any) -> bool:
    if isinstance(tensor, keras.KerasTensor):
        return True
    if isinstance(tensor, keras.Variable):
        tensor = tensor.value
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.is_symbolic_tensor(tensor))
    if backend == "jax":
        from jax.core import Tracer  # pyright: ignore[reportMissingImports]

        return isinstance(tensor, Tracer)
    return bool(tensor.is_meta)
