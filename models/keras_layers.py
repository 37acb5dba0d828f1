"""What Keras lacks and several pairs need: PyTorch's running variance, dense gradients of a table, positions."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("models")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras's batch normalization by PyTorch's three conventions.

    - The new share: PyTorch's `momentum=0.1` is what comes in, Keras's `momentum=0.9` is what stays.
    - Epsilon: 1e-5, where Keras has 1e-3.
    - The running variance: both divide a batch by its biased variance, sum / n. PyTorch then remembers the unbiased
      one, sum / (n - 1), Keras the biased one. No setting of Keras changes that, so it is done here.

    Each call in training moves the statistics once, in both frameworks: n calls, n moves.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **options) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **options)

    def call(self, inputs, training=None, mask=None):
        before = keras.ops.copy(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            n = keras.ops.cast(keras.ops.size(inputs) // inputs.shape[-1], before.dtype)
            kept = before * self.momentum
            self.moving_variance.assign(kept + (self.moving_variance - kept) * n / (n - 1))
        return outputs


@keras.saving.register_keras_serializable("models")
class Positions(keras.layers.Layer):
    """Adds a learned vector to each position: (B, T, D) -> (B, T, D).

    Args:
        length: the largest T.
    """

    def __init__(self, length: int, **options) -> None:
        super().__init__(**options)
        self.length = length

    def build(self, input_shape) -> None:
        self.table = self.add_weight(
            shape=(self.length, input_shape[-1]), initializer=keras.initializers.RandomNormal(), name="table"
        )

    def call(self, x):
        return x + self.table[: x.shape[1]]

    def get_config(self):
        return {**super().get_config(), "length": self.length}


def rows_of(table, indexes):
    """Rows of a table, with a dense gradient: (V, D) and (...) -> (..., D).

    On TensorFlow the gradient of a lookup is a list of rows, one for each lookup, in which a row that is looked up
    three times stands three times. Keras 3.15 squares such a list row by row. So Adam, RMSprop, Adagrad and their kin
    remember the sum of three squares, where every other framework and backend remembers the square of the sum. A
    reshape that changes nothing makes the gradient a matrix, and the optimizer right. A table that is also multiplied
    by something, such as a tied embedding, needs no such thing.
    """
    return keras.ops.take(keras.ops.reshape(table, table.shape), indexes, axis=0)


@keras.saving.register_keras_serializable("models")
class Embedding(keras.layers.Embedding):
    """Keras's embedding, with the gradient of `rows_of`."""

    def call(self, inputs):
        return rows_of(self.embeddings, inputs)
