"""Mistral: keras_hub against transformers, small and random."""

import numpy as np

import xcheck


def build_torch():
    from transformers import MistralConfig, MistralModel

    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}
    return MistralModel(MistralConfig(vocab_size=97, num_key_value_heads=2, sliding_window=5, **sizes))


def build_keras():
    from keras_hub.models import MistralBackbone

    return MistralBackbone(97, 3, 4, 24, 40, 2, sliding_window=5)


def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"token_ids": rng.integers(0, 97, (2, 9)), "padding_mask": np.ones((2, 9), np.int64)})


PAIR = xcheck.Pair(
    "mistral",
    xcheck.TorchSide(
        build_torch,
        prepare=lambda b: ({"input_ids": b.inputs["token_ids"], "attention_mask": b.inputs["padding_mask"]}, None),
        outputs=lambda raw: raw.last_hidden_state,
    ),
    xcheck.KerasSide(build_keras),
    batches,
)
