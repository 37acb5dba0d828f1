"""An estimate refined by one recurrent block, with a loss after each iteration, in Keras.

After Teed and Deng 2020, "RAFT": one convolutional GRU is applied K times; each time it sees the estimate so far, and
what it adds is judged by itself, since the estimate it starts from carries no gradient. Here an image loses its noise.

The block is one layer that a functional graph calls K times, which is stored once with K calls. PyTorch's `detach` is
`keras.ops.stop_gradient`; it has a place in the graph like any operation, and is saved with it.

Shapes: B batch, C channels, H height, W width, K iterations.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model.

    `detached` is False in a port that forgets to cut the gradient between the iterations.
    """

    channels: int = 4
    iterations: int = 3
    detached: bool = True


@keras.saving.register_keras_serializable("iterative_refinement")
class UpdateBlock(keras.layers.Layer):
    """A convolutional GRU and the change it makes to the estimate."""

    def __init__(self, channels: int, **options) -> None:
        super().__init__(**options)
        self.channels = channels
        self.update = keras.layers.Conv2D(channels, 3, padding="same", name="update")
        self.reset = keras.layers.Conv2D(channels, 3, padding="same", name="reset")
        self.candidate = keras.layers.Conv2D(channels, 3, padding="same", name="candidate")
        self.change = keras.layers.Conv2D(1, 3, padding="same", name="change")

    def build(self, input_shape, *_) -> None:
        for layer in (self.update, self.reset, self.candidate):
            layer.build((*input_shape[:-1], 2 * self.channels + 1))
        self.change.build(input_shape)

    def call(self, h, features, estimate):
        # h, features: (B, H, W, C); estimate: (B, H, W, 1)
        x = keras.ops.concatenate([h, features, estimate], -1)  # (B, H, W, 2C + 1)
        z = keras.ops.sigmoid(self.update(x))
        r = keras.ops.sigmoid(self.reset(x))
        q = keras.ops.tanh(self.candidate(keras.ops.concatenate([r * h, features, estimate], -1)))
        h = (1 - z) * h + z * q
        return h, self.change(h)  # (B, H, W, C), (B, H, W, 1)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def build(config: Config) -> keras.Model:
    """Features once, then the block K times; with Keras's own initial weights."""
    image = keras.Input((None, None, 1), name="image")  # (B, H, W, 1)
    features = keras.layers.Conv2D(config.channels, 3, padding="same", activation="relu", name="features")(image)
    h = keras.layers.Conv2D(config.channels, 3, padding="same", activation="tanh", name="start")(image)
    block = UpdateBlock(config.channels, name="block")
    estimate, estimates = image, []
    for _ in range(config.iterations):
        estimate = keras.ops.stop_gradient(estimate) if config.detached else estimate
        h, change = block(h, features, estimate)
        estimate = estimate + change
        estimates.append(estimate)
    return keras.Model(image, keras.ops.squeeze(keras.ops.stack(estimates, 1), -1))  # (B, K, H, W)


def sequence_loss(truth, estimates, iterations: int, gamma: float = 0.8, newest_first: bool = False):
    """Mean absolute error of each iteration, the last one weighted 1, the one before it gamma, and so on."""
    each = keras.ops.mean(keras.ops.abs(estimates - truth), (2, 3))  # (B, K)
    age = range(iterations) if newest_first else reversed(range(iterations))
    return sum(gamma**n * each[:, i] for i, n in enumerate(age))  # (B,)
