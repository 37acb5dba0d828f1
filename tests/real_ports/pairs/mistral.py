"""Mistral: keras_hub against transformers, small and random; with the head, which the backbone of keras_hub holds."""

import numpy as np

import xcheck

NAMES = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}


def build_torch():
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(vocab_size=97, num_key_value_heads=2, sliding_window=5, **SIZES))


def build_keras():
    import keras
    import keras_hub

    body = keras_hub.models.MistralBackbone(97, 3, 4, 24, 40, 2, sliding_window=5)
    return keras.Model(body.inputs, body.token_embedding(body.output, reverse=True))


def batches(seed, shape=(2, 9)):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"token_ids": rng.integers(0, 97, shape), "padding_mask": np.ones(shape, int)})


TORCH = {"prepare": lambda b: ({NAMES[n]: a for n, a in b.inputs.items()}, None), "outputs": lambda raw: raw.logits}
PAIR = xcheck.Pair("mistral", xcheck.TorchSide(build_torch, **TORCH), xcheck.KerasSide(build_keras), batches)
