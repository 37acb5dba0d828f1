"""The canaries of Keras: one for each interception under `patches/`, on the backend that Keras runs on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from ...records.calls import nowhere
from ...records.islands import Islands
from ...records.store import Store
from ..canary import EVERY, GRADIENT, MODEL, NUMPY, Canary, Outcome, expect, expect_equal, outcomes
from ..passes import Drops
from ..protocol import Prepared
from .backends import named_device
from .patches import (
    calls,
    construction,
    dropout,
    handed_over,
    layer_names,
    precision,
    resize,
    rounding,
    stops,
    tf_operations,
    training_step,
    uses,
)
from .variables import to_numpy

X = np.array([[0.5, -1.0]])


def canaries() -> tuple[Outcome, ...]:
    """What the canaries answer; no count, no random stream and no setting of Keras's is left changed."""
    backend = keras.config.backend()
    on_tensorflow = TENSORFLOW if backend == "tensorflow" else ()
    return outcomes(f"keras {keras.__version__} on {backend}", (*CANARIES, *on_tensorflow), _untouched)


@contextmanager
def _untouched() -> Generator[None]:
    held = vars(global_state.GLOBAL_STATE_TRACKER)
    # Copied, since what a canary adds to a list of variables that are yet to be made would be made twice.
    before = {key: copy(value) if isinstance(value, list | dict) else value for key, value in held.items()}
    try:
        with keras.device(named_device("cpu")), layer_names.naming(defaultdict(int)):
            yield
    finally:
        held.clear()
        held.update(before)


@contextmanager
def _in_float64(islands: Islands | None = None) -> Generator[None]:
    with precision.float64_throughout(islands or Islands(lambda _: None)):
        yield


def _x() -> Any:
    return keras.ops.convert_to_tensor(X)


def _dense(units: int, **settings: Any) -> Any:
    constant: Any = keras.initializers.Constant(0.25)
    return keras.layers.Dense(units, use_bias=False, kernel_initializer=constant, **settings)


def _float64() -> None:
    islands = Islands(lambda _: None)
    floatx = keras.config.floatx()
    with _in_float64(islands):
        third = keras.ops.convert_to_tensor(np.array([[1 / 3]]))
        cast: Any = keras.ops.cast(_dense(1)(third), "float32")
        made = cast * 0.1 + keras.ops.zeros((1, 1), dtype="float32")
        dtype, named = keras.backend.standardize_dtype(made.dtype), keras.backend.standardize_dtype("float32")
    expect(named == "float64", f"a layer that asks for float32 gets {named}")
    expect(dtype == "float64", f"a cast to float32 gave {dtype}")
    expect_equal("a third times 0.25 times 0.1, cast to float32 in between", to_numpy(made), [[1 / 3 * 0.25 * 0.1]])
    expect(islands.casts, "a cast to float32 was not seen")
    expect(keras.config.floatx() == floatx, f"the float type of Keras is left at {keras.config.floatx()}")


def _dropout_off() -> None:
    drops = Drops()
    with _in_float64():
        x = _x()
        with dropout.dropout_off(drops):
            y = keras.layers.AlphaDropout(0.25)(keras.layers.Dropout(0.5)(x, training=True), training=True)
            y = keras.random.dropout(y, 0.125, seed=1)
            y = keras.layers.SpatialDropout1D(0.375)(y[None], training=True)[0]
    expect_equal("the rates of four dropouts", drops.rates, [0.5, 0.25, 0.125, 0.375])
    expect_equal("outputs in training without dropout", to_numpy(y), X)


def _draws_seen() -> None:
    drew: list[str] = []
    with _in_float64(), dropout.dropout_off(None, drew):
        keras.layers.GaussianNoise(1.0, seed=1, name="noise")(_x(), training=True)
        keras.random.uniform((1,), seed=1)
    expect({"noise: normal", "uniform"} <= set(drew), f"what draws a normal and a uniform number was seen as {drew}")


def _calls_seen() -> None:
    with _in_float64():
        model = keras.Sequential([keras.Input((2,)), _dense(2, name="a"), keras.layers.Activation("tanh", name="b")])
        watch = calls.Watch(model, inside=lambda _: True)

        def total() -> Any:
            with watch.recording():
                raw = model(_x())
            with watch.recording_loss({"outputs": raw}) as made:
                made["output"] = keras.ops.sum(raw * raw)
            return made["output"]

        by_call = calls.differentiated(total, watch)
        seen = [(call.path.rpartition("/")[2], call.kind) for call in watch.made]
        wanted = [("a", "matmul"), ("a", "Dense"), ("b", "tanh"), ("b", "Activation"), ("", "Sequential")]
        expect_equal("the calls of a Dense and a tanh", seen[:5], wanted)
        expect_equal("what Dense returned", watch.made[1].outputs["output"], X.sum(1, keepdims=True) * [[0.25, 0.25]])
        expect_equal("the calls of a loss", [kind for _, kind in seen[5:]], ["multiply", "sum", "loss"])
        if keras.config.backend() != "jax":  # where no call has a gradient
            gradient = by_call[watch.made[4].index]["output"]
            expect_equal("the gradient of a sum of squares", gradient, 2 * watch.made[4].outputs["output"])

        def zeros(call: Any) -> Any:
            return {"output": 0 * call.outputs["output"]} if call.kind == "Dense" else None

        with calls.Watch(model, zeros, nowhere).recording():
            expect_equal("tanh of what was exchanged for 0", to_numpy(model(_x())), [[0.0, 0.0]])


class _Twice(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _dense(2, kernel_regularizer=keras.regularizers.L2(0.5))

    def call(self, x: Any) -> Any:
        y = self.inner(x)
        return self.inner(keras.ops.tanh(y)) * keras.ops.stop_gradient(y)


class _Side:
    """What the interceptions use of a side; see `LiveKeras`."""

    def __init__(self) -> None:
        self.model: Any = _Twice()
        self.model(_x())
        self.model.compile(optimizer=keras.optimizers.SGD(0.5), loss="mse", run_eagerly=True, jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)
        self.projected, self.store, self.seed = False, Store(), 0
        self._handed_over = handed_over.HandedOver()
        self.ready = Prepared(_x(), keras.ops.zeros((1, 2), dtype="float64"))

    def _picked(self, raw: Any) -> Any:
        return raw

    def _named_outputs(self, raw: Any) -> dict[str, Any]:
        return {"output": raw}

    def _infer(self, *_: Any) -> Any:
        raise AssertionError("no canary runs a side in inference")

    def _call(self, inputs: Any, training: bool) -> Any:
        return self.model(inputs, training=training)

    def _total(self, ready: Prepared, raw: Any, training: bool) -> Any:
        return self.model.compute_loss(ready.inputs, ready.targets, raw, training=training)

    def step(self) -> tuple[training_step.Seen, Any]:
        """One training step, observed; what it reported."""
        seen = training_step.Seen()
        with training_step.observed(self.model, seen, self._picked, self._named_outputs, False):
            logs = self.model.train_on_batch(self.ready.inputs, self.ready.targets, return_dict=True)
        return seen, logs

    def weight(self) -> Any:
        """Of the one layer, as it is now."""
        return to_numpy(self.model.inner.kernel)


def _step_seen() -> None:
    with _in_float64():
        side = _Side()
        before = side.weight()
        wanted = to_numpy(side.model(_x()))
        seen, logs = side.step()
        made = seen.calls()
        expect(len(made) == 1, f"the outputs of one step were seen {len(made)} times")
        expect_equal("the outputs of a step", made[0]["output"], wanted)
        losses = seen.losses(logs)
        penalty, data = 0.5 * float((before**2).sum()), float((wanted**2).mean())
        for name, value in (("data", data), ("penalty", penalty), ("total", data + penalty)):
            expect(name in losses, f"the {name} of a loss was not seen, only: {', '.join(losses)}")
            expect_equal(f"the {name} of a loss", losses[name], value)
        gradient = seen.gradients.get(id(side.model.inner.kernel))
        expect(gradient is not None, "the gradient of a step was not seen")
        expect_equal("the change by SGD, over its rate", (before - side.weight()) / 0.5, to_numpy(gradient))


def _uses_split() -> None:
    made: Any = {"tensorflow": uses._on_tensorflow, "torch": uses._on_torch, "jax": uses._on_jax}
    with _in_float64():
        side = _Side()
        reads = made[keras.config.backend()](side, side.ready)
        before = side.weight()
        parts: dict[tuple[str, int], Any] = {}
        for read in reads:
            for gradient in read.gradients:
                place = read.owner.rpartition("/")[2], read.call
                parts[place] = parts.get(place, 0.0) + to_numpy(gradient)
        seen, _ = side.step()
        whole = to_numpy(seen.gradients[id(side.model.inner.kernel)])
    for place in (("dense", 1), ("dense", 2), ("penalty", 0)):
        expect(np.any(parts.get(place, 0.0)), f"a use of a weight has no gradient: {place}, of {list(parts)}")
    expect_equal("the sum of the gradients of all uses", sum(parts.values()), whole)
    expect_equal("a weight after its uses were split", before, np.full((2, 2), 0.25))


def _stops_seen() -> None:
    if keras.config.backend() == "jax":  # where no stop is seen, and the patch says so
        return
    gradients: list[Any] = []
    for let_through in (False, True):
        with _in_float64():
            side: Any = _Side()
            with stops.stops(side, lambda _, let=let_through: let) as found:
                seen, _ = side.step()
            gradients.append(to_numpy(seen.gradients[id(side.model.inner.kernel)]))
        at = [(stop.path, stop.kind) for stop in found]
        expect(("", "stop_gradient") in at, f"a gradient that is stopped was not seen, only: {at}")
    expect(not np.allclose(gradients[0], gradients[1]), "a gradient that is let through is stopped all the same")


def _rounded() -> None:
    with _in_float64():
        model, x = keras.Sequential([keras.Input((2,)), _dense(64, activation="sigmoid")]), _x()
        exact = to_numpy(model(x))
        with rounding.rounding(model, np.random.default_rng(0)):
            moved = to_numpy(model(x))
    error = float(np.abs(moved / exact - 1).max())
    expect(0.5e-16 < error < 1e-14, f"a rounding error that was added is one of {error:.1e}")


def _layer_names() -> None:
    paths: list[str] = []
    for _ in range(2):
        with layer_names.naming(defaultdict(int)):
            paths += [_dense(1).name, keras.Sequential([_dense(1)]).name]
    expect_equal("the names of layers made twice", paths, ["dense", "sequential"] * 2)


def _tensorflow() -> None:
    import tensorflow as tf

    islands = Islands(lambda _: None)
    variable: Any = tf.Variable
    with _in_float64(islands):
        third, narrow = tf.constant(1 / 3), tf.constant(np.array([0.1], np.float32))
        for what, made in (
            ("tf.cast(0.1, float64)", third * tf.cast(0.1, tf.float64)),
            ("tf.cast to float32", tf.cast(third, tf.float32) * tf.constant(0.1)),
            ("tf.constant of float32", third * tf.constant(0.1, tf.float32)),
            ("tf.convert_to_tensor", third * tf.convert_to_tensor(0.1, tf.float32)),
            ("tf.Variable", third * variable(0.1, dtype=tf.float32)),
            ("tf.nn.leaky_relu", -tf.nn.leaky_relu(-third, alpha=0.1)),
        ):
            expect(made.dtype == tf.float64, f"{what} gave {made.dtype.name}")
            expect_equal(f"a third times 0.1 by {what}", made.numpy(), 1 / 3 * 0.1)
        mixed = tf.ones(1, tf.float32) * third + tf.function(lambda v: v * tf.ones(1))(third)
        expect_equal("a third of float64 by 1 of float32, twice", mixed.numpy(), [2 / 3])
        _ = third * narrow
        boxes = tf.image.crop_and_resize(tf.fill((1, 2, 2, 1), third), tf.zeros((1, 4), tf.float64), [0], [2, 2])
        expect(boxes.dtype == tf.float64, f"an operation without float64 gave {boxes.dtype.name}")
    expect(islands.casts, "casts to float32 were not seen")
    expect(islands.numbers, "numbers of float32 came in unseen")
    expect(tf.constant(0.1).dtype == tf.float32, "TensorFlow's own float type is left changed")


def _resized() -> None:
    import tensorflow as tf

    image = np.arange(4.0).reshape(1, 2, 2, 1) / 3
    with _in_float64():
        made = tf.image.resize(tf.constant(image), (3, 2), method="bilinear")
        expect(made.dtype == tf.float64, f"tf.image.resize gave {made.dtype.name}")
        weights = resize.resizing_weights("bilinear", 2, 3, antialias=False)
        expect_equal("a resized image", made.numpy()[0, :, :, 0], weights @ image[0, :, :, 0])


def _random_states_seen() -> None:
    import tensorflow as tf

    known = set(tf_operations.DREW)
    tf_operations.DREW.clear()
    with _in_float64():
        tf.random.shuffle(tf.range(2), seed=1)
    seen = set(tf_operations.DREW)
    tf_operations.DREW.clear()
    tf_operations.DREW.update(known)
    expect(seen, "an operation with a random state of its own was not seen: with a new seed it would draw on")


def _constructions_seen() -> None:
    made: list[Any] = []
    with construction.constructions({}, made.append):
        _dense(1)
        keras.losses.MeanSquaredError()
        keras.optimizers.SGD(0.1)
    kinds = [kind for kind in ("Dense", "MeanSquaredError", "SGD") if kind in {type(one).__name__ for one in made}]
    expect_equal("what was seen of three objects that were constructed", kinds, ["Dense", "MeanSquaredError", "SGD"])


CANARIES = (
    Canary("float64 kept", EVERY, _float64),
    NUMPY,
    Canary("layer names repeated", EVERY, _layer_names),
    Canary("calls seen", EVERY, _calls_seen),
    Canary("dropout off", EVERY, _dropout_off),
    Canary("random draws seen", MODEL, _draws_seen),
    Canary("rounding errors added", MODEL, _rounded),
    Canary("training step seen", MODEL, _step_seen),
    Canary("constructions seen", (), _constructions_seen),
    Canary("gradients split by use", GRADIENT, _uses_split),
    Canary("stopped gradients seen", GRADIENT, _stops_seen),
)
"""Which phases need which interception."""

TENSORFLOW = (
    Canary("TensorFlow in float64", EVERY, _tensorflow),
    Canary("resizing in float64", EVERY, _resized),
    Canary("random states seen", MODEL, _random_states_seen),
)
"""And on that backend."""
