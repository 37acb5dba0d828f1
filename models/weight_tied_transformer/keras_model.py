"""A decoder-only transformer whose head is its embedding, and the schedule it is trained by, in Keras.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2), as it is commonly retrained: AdamW
that leaves vectors alone, a learning rate that warms up and then falls along a cosine, gradients clipped together.

The tie is one `ReversibleEmbedding` called at both ends. A port of this model mostly goes wrong outside of it, where
nothing shows in a comparison of outputs: `LearningRate`, `MatrixDecayAdamW` and `optimizer` below mend that.

- Keras's AdamW decays everything unless it is told otherwise. What it is told is not part of its config: a loaded model
  decays everything again. A class of its own remembers.
- Its epsilon is 1e-7 and counts 30 times as much in the first step, since it is added before the bias correction.
- Keras asks a schedule with the number of steps already taken, 0 for the first. Its own warm-up therefore starts from a
  step that changes nothing.
- `clipnorm` clips each variable by itself. What PyTorch's `clip_grad_norm_` does is `global_clipnorm`.

Shapes: B batch, T time, V vocabulary, D width, H heads.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras

from ..keras_layers import Positions


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    vocabulary: int = 256
    length: int = 12
    width: int = 24
    heads: int = 2
    layers: int = 1


def block(config: Config, name: str, x):
    """Attention to what came before, and two dense layers, each added to its input."""
    # x: (B, T, D); q, k, v: (B, T, H, D / H)
    norm = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_attention_norm")
    parts = keras.layers.Dense(3 * config.width, name=f"{name}_query_key_value")(norm(x))
    heads = keras.layers.Reshape((-1, config.heads, config.width // config.heads))
    q, k, v = (heads(part) for part in keras.ops.split(parts, 3, axis=-1))
    # The scale is given because Keras computes its own in float32, whatever the precision of the model.
    scale = (config.width // config.heads) ** -0.5
    seen = keras.ops.dot_product_attention(q, k, v, scale=scale, is_causal=True)  # (B, T, H, D / H)
    seen = keras.layers.Reshape((-1, config.width))(seen)
    x = x + keras.layers.Dense(config.width, name=f"{name}_output")(seen)
    y = keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")(x)
    y = keras.activations.gelu(keras.layers.Dense(4 * config.width, name=f"{name}_up")(y), approximate=True)
    return x + keras.layers.Dense(config.width, name=f"{name}_down")(y)


def build(config: Config) -> keras.Model:
    """Embedding, blocks, and the embedding again; with Keras's own initial weights."""
    text = keras.Input((config.length,), dtype="int64", name="text")  # (B, T)
    embedding = keras.layers.ReversibleEmbedding(config.vocabulary, config.width, name="embedding")
    x = Positions(config.length, name="positions")(embedding(text))  # (B, T, D)
    for i in range(config.layers):
        x = block(config, f"block_{i}", x)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(text, embedding(x, reverse=True))  # (B, T, V)


@dataclass(frozen=True)
class Training:
    """How it is trained: the learning rate's peak and course in steps, decay, clipping.

    `excluded` (from decay) "until saved" or "never", `late` and `clip_each` are the usual mistakes.
    """

    peak: float = 6e-4
    warm_up: int = 4
    steps: int = 20
    floor: float = 0.1
    weight_decay: float = 0.1
    beta_2: float = 0.95
    epsilon: float = 1e-8
    clip: float = 1.0
    excluded: Literal["always", "until saved", "never"] = "always"
    late: bool = False
    clip_each: bool = False


@keras.saving.register_keras_serializable("weight_tied_transformer")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Of the next step, after so many: up in a line to the peak, then down a cosine to a share of it."""

    def __init__(self, training: Training | dict) -> None:
        self.training = training if isinstance(training, Training) else Training(**training)

    def __call__(self, step):
        training = self.training
        taken = keras.ops.cast(step, keras.config.floatx()) - (1 if training.late else 0)
        up = training.peak * (taken + 1) / training.warm_up
        done = keras.ops.minimum((taken - training.warm_up) / (training.steps - training.warm_up), 1.0)
        down = training.peak * (training.floor + (1 - training.floor) * (1 + keras.ops.cos(math.pi * done)) / 2)
        return keras.ops.where(taken < training.warm_up, up, down)

    def get_config(self):
        return {"training": asdict(self.training)}


@keras.saving.register_keras_serializable("weight_tied_transformer")
class MatrixDecayAdamW(keras.optimizers.AdamW):
    """AdamW that decays matrices, but no biases and nothing of a norm."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])


def optimizer(training: Training) -> keras.optimizers.Optimizer:
    """AdamW that clips all gradients together."""
    kind: Any = MatrixDecayAdamW if training.excluded == "always" else keras.optimizers.AdamW
    adamw = kind(
        LearningRate(training),
        weight_decay=training.weight_decay,
        beta_2=training.beta_2,
        epsilon=training.epsilon,
        **{"clipnorm" if training.clip_each else "global_clipnorm": training.clip},
    )
    if training.excluded == "until saved":
        adamw.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return adamw
