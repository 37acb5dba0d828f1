"""GPT-2: keras_hub against transformers, small and random."""

import numpy as np

import xcheck

NAMES = {"token_ids": "input_ids", "padding_mask": "attention_mask"}


def build_torch():
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(
        GPT2Config(vocab_size=97, n_positions=16, n_embd=24, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0)
    )


def build_keras():
    from keras_hub.models import GPT2Backbone

    return GPT2Backbone(97, 3, 4, 24, 96, max_sequence_length=16)


def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"token_ids": rng.integers(0, 97, (2, 9)), "padding_mask": np.ones((2, 9), int)})


TORCH = {
    "prepare": lambda b: ({NAMES[n]: a for n, a in b.inputs.items()}, None),
    "outputs": lambda raw: raw.last_hidden_state,
}
PAIR = xcheck.Pair("gpt2", xcheck.TorchSide(build_torch, **TORCH), xcheck.KerasSide(build_keras), batches)
