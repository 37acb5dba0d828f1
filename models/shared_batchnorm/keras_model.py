"""One encoder with batch normalization that sees two views of an image, in Keras.

Chen and He 2021, "Exploring Simple Siamese Representation Learning" (SimSiam): two views go through one encoder and
one predictor; each prediction is drawn to the other view's code, which is held still.

Encoder and predictor are models of their own that are called twice. In both frameworks a batch normalization that is
called k times in a step moves its statistics k times, each time towards the batch of that call, so the last call counts
most. That makes the order of the calls part of the computation. A functional model does not keep it: it runs its nodes
by their depth in the graph. A subclassed model does, and what it holds is stored once, too.

The rest are conventions, which `keras_layers.BatchNorm` settles: what `momentum` means, epsilon, and which variance is
remembered. The last has no setting. But for epsilon none of this shows in the loss of the step that gets it wrong: the
statistics are off, and so is the model when it is used.

Shapes: B batch, D pixels, H hidden, C code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import keras

from ..keras_layers import BatchNorm


@dataclass(frozen=True)
class Config:
    """Sizes of the model.

    `convention` has the usual mistakes: Keras's variance, PyTorch's momentum, all of Keras's defaults. `concatenated`
    makes one call of two, `functional` leaves the order of the calls to Keras.
    """

    pixels: int = 64
    hidden: int = 16
    code: int = 8
    predictor: int = 4
    convention: Literal["pytorch", "biased", "momentum", "keras"] = "pytorch"
    concatenated: bool = False
    functional: bool = False


def normalized(config: Config, x, units: int, name: str, affine: bool = True):
    """A dense layer without bias, and batch normalization."""
    kind, settings = {
        "pytorch": (BatchNorm, {}),
        "biased": (keras.layers.BatchNormalization, {"momentum": 0.9, "epsilon": 1e-5}),
        "momentum": (BatchNorm, {"momentum": 0.1}),
        "keras": (keras.layers.BatchNormalization, {}),
    }[config.convention]
    x = keras.layers.Dense(units, use_bias=False, name=f"{name}_linear")(x)
    return kind(center=affine, scale=affine, name=f"{name}_norm", **settings)(x)


def encoder(config: Config) -> keras.Model:
    """A view to its code."""
    view = keras.Input((config.pixels,))  # (B, D)
    x = keras.ops.relu(normalized(config, view, config.hidden, "hidden"))  # (B, H)
    return keras.Model(view, normalized(config, x, config.code, "code", affine=False), name="encoder")  # (B, C)


def predictor(config: Config) -> keras.Model:
    """A code to a guess of the other view's."""
    code = keras.Input((config.code,))  # (B, C)
    x = keras.ops.relu(normalized(config, code, config.predictor, "guess"))
    return keras.Model(code, keras.layers.Dense(config.code, name="prediction")(x), name="predictor")


def cosine(a, b):
    """Of the angle between vectors: (B, C), (B, C) -> (B, 1); PyTorch's bound on their lengths is 1e-8.

    `keras.ops.normalize` has another bound, and on JAX and PyTorch the gradient of a vector of zeros is NaN there.
    """

    def unit(x):
        squares = keras.ops.sum(x * x, axis=-1, keepdims=True)
        return x * keras.ops.rsqrt(keras.ops.maximum(squares, 1e-16))

    return keras.ops.sum(unit(a) * unit(b), axis=-1, keepdims=True)


def similarities(config: Config, encode, predict, first, second, training=None):
    """How like the prediction from each of two views is to the code of the other."""
    # first, second: (B, D)
    options = {} if training is None else {"training": training}
    if config.concatenated:
        codes = encode(keras.ops.concatenate([first, second]), **options)
        predictions = predict(codes, **options)
        (code_1, code_2), (prediction_1, prediction_2) = keras.ops.split(codes, 2), keras.ops.split(predictions, 2)
    else:
        code_1, code_2 = encode(first, **options), encode(second, **options)  # each (B, C)
        prediction_1, prediction_2 = predict(code_1, **options), predict(code_2, **options)
    one = cosine(prediction_1, keras.ops.stop_gradient(code_2))
    two = cosine(prediction_2, keras.ops.stop_gradient(code_1))
    return keras.ops.concatenate([one, two], axis=-1)  # (B, 2)


@keras.saving.register_keras_serializable("shared_batchnorm")
class SimSiam(keras.Model):
    """The calls in the order in which they are written."""

    def __init__(self, config: Config | dict, **options) -> None:
        super().__init__(**options)
        self.config = config if isinstance(config, Config) else Config(**config)
        self.encoder, self.predictor = encoder(self.config), predictor(self.config)

    def call(self, views, training=None):
        # On JAX `training` reaches the layers inside only if the model hands it on.
        return similarities(self.config, self.encoder, self.predictor, *views, training=training)

    def get_config(self):
        return {**super().get_config(), "config": asdict(self.config)}


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights."""
    if not config.functional:
        return SimSiam(config)
    views = [keras.Input((config.pixels,), name=name) for name in ("first", "second")]
    return keras.Model(views, similarities(config, encoder(config), predictor(config), *views))
