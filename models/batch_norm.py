"""Batch normalization for Keras with PyTorch's running variance."""

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
