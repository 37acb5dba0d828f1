"""One block iterated to its fixed point, trained through the fixed point, in Keras.

Bai, Kolter and Koltun 2019, "Deep Equilibrium Models": the output is a z with z = f(z, x), as if the one block f were
applied forever. No step of the search for z is differentiated: by the implicit function theorem
dz = (I - J)^-1 df, with J the derivative of f by z, whatever way led there.

The block is one layer with one kernel, used by the layer that seeks the fixed point as often as it likes; both are
saved by their configuration. A custom gradient would tie the model to one backend. It is not needed: `stop_gradient`
on the search, and a Newton step whose value is zero and whose gradient is the implicit one, say the same in plain
operations.

Shapes: B batch, D pixels, W width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model, and how long the fixed point is sought.

    `gradient` has what is used in place of the implicit one: the last step alone, the last three, or all of them.
    """

    inputs: int = 64
    width: int = 12
    classes: int = 10
    iterations: int = 24
    gradient: Literal["implicit", "one_step", "three_steps", "unrolled"] = "implicit"


@keras.saving.register_keras_serializable("deep_equilibrium")
class Block(keras.layers.Layer):
    """f(z, x) = tanh(A z + x), a contraction while A is small."""

    def __init__(self, width: int, **options) -> None:
        super().__init__(**options)
        self.width = width
        self.small = keras.initializers.RandomNormal(stddev=0.1 / width**0.5)

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(self.width, self.width), initializer=self.small, name="kernel")

    def call(self, z, x):
        return keras.ops.tanh(z @ self.kernel + x)  # (B, W)

    def derivative(self, z, v):
        """J v at the fixed point z, without a gradient of its own."""
        return v @ keras.ops.stop_gradient(keras.ops.convert_to_tensor(self.kernel)) * (1 - z**2)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable("deep_equilibrium")
class FixedPoint(keras.layers.Layer):
    """z = f(z, x), with the derivative that the implicit function theorem gives it."""

    def __init__(self, width: int, iterations: int, gradient: str = "implicit", **options) -> None:
        super().__init__(**options)
        self.width = width
        self.iterations = iterations
        self.gradient = gradient
        self.block = Block(width, name="block")

    def build(self, input_shape) -> None:
        self.block.build(None)

    def call(self, x):
        # x: (B, W)
        z = keras.ops.zeros_like(x)
        seen = {"one_step": 1, "three_steps": 3, "unrolled": self.iterations}.get(self.gradient, 0)
        for i in range(self.iterations):
            z = self.block(z, x)
            if i < self.iterations - seen:
                z = keras.ops.stop_gradient(z)
        if self.gradient != "implicit":
            return z
        # Nothing but `rest`, which is zero at the fixed point, has a gradient: this adds (I - J)^-1 d f to z.
        rest = self.block(z, x) - z
        step = rest
        for _ in range(self.iterations):
            step = rest + self.block.derivative(z, step)
        return z + step

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "iterations": self.iterations,
            "gradient": self.gradient,
        }


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights around the block."""
    image = keras.Input((config.inputs,), name="image")  # (B, D)
    x = keras.layers.Dense(config.width, name="injection")(image)  # (B, W)
    z = FixedPoint(config.width, config.iterations, config.gradient, name="fixed_point")(x)
    return keras.Model(image, keras.layers.Dense(config.classes, name="head")(z))  # (B, C), logits
