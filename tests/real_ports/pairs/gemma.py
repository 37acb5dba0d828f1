"""Gemma: keras_hub against transformers, small and random; its kernels have heads first, its norms store scale - 1."""

import numpy as np

import xcheck

NAMES = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 6}


def build_torch():
    from transformers import GemmaConfig, GemmaModel

    return GemmaModel(GemmaConfig(vocab_size=97, num_key_value_heads=2, **SIZES))


def build_keras():
    from keras_hub.models import GemmaBackbone

    return GemmaBackbone(97, 2, 4, 2, 24, 80, 6)


def batches(seed, shape=(2, 9)):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"token_ids": rng.integers(1, 97, shape), "padding_mask": np.ones(shape, int)})


TORCH = {
    "prepare": lambda b: ({NAMES[n]: a for n, a in b.inputs.items()}, None),
    "outputs": lambda raw: raw.last_hidden_state,
}
PAIR = xcheck.Pair("gemma", xcheck.TorchSide(build_torch, **TORCH), xcheck.KerasSide(build_keras), batches)
