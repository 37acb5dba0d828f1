"""Backbones of keras_hub against transformers: one row each, small and random, without a weight map or a waiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import xcheck

TOKENS, LENGTH = 97, 9
PIXELS, PATCH = 16, 4


@dataclass(frozen=True)
class Port:
    """One backbone, the same sizes on both sides.

    Attributes:
        keras: class of keras_hub.models, without "Backbone", and its config.
        torch: class of transformers, without "Model", and its config.
        eats: key of `EATS`.
        output: of the Keras model, where it has several.
        cause: why the two are known to differ; None where they are the same.
    """

    keras: tuple[str, Mapping[str, Any]]
    torch: tuple[str, Mapping[str, Any]]
    eats: str = "masked"
    output: str | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Eaten:
    """What a kind of model is given.

    Attributes:
        batch: makes the neutral arrays of one batch.
        keras, torch: turn them into the inputs of that side.
    """

    batch: Callable[[np.random.Generator], dict[str, Any]]
    keras: Callable[[Mapping[str, Any]], Any]
    torch: Callable[[Mapping[str, Any]], Any]


def ids(rng: np.random.Generator) -> Any:
    return rng.integers(3, TOKENS, (2, LENGTH))


EATS = {
    "masked": Eaten(
        lambda rng: {"ids": ids(rng)},
        lambda x: {"token_ids": x["ids"], "padding_mask": np.ones_like(x["ids"])},
        lambda x: {"input_ids": x["ids"], "attention_mask": np.ones_like(x["ids"])},
    ),
    "segments": Eaten(
        lambda rng: {"ids": ids(rng), "segments": rng.integers(0, 2, (2, LENGTH))},
        lambda x: {"token_ids": x["ids"], "padding_mask": np.ones_like(x["ids"]), "segment_ids": x["segments"]},
        lambda x: {"input_ids": x["ids"], "attention_mask": np.ones_like(x["ids"]), "token_type_ids": x["segments"]},
    ),
    "unmasked": Eaten(
        lambda rng: {"ids": ids(rng), "segments": rng.integers(0, 2, (2, LENGTH))},
        lambda x: {"token_ids": x["ids"], "segment_ids": x["segments"]},
        lambda x: {"input_ids": x["ids"], "token_type_ids": x["segments"]},
    ),
    "image": Eaten(
        lambda rng: {"image": rng.standard_normal((2, PIXELS, PIXELS, 3))},
        lambda x: x["image"],
        lambda x: x["image"].transpose(0, 3, 1, 2),
    ),
    "named image": Eaten(
        lambda rng: {"image": rng.standard_normal((2, PIXELS, PIXELS, 3))},
        lambda x: {"images": x["image"]},
        lambda x: x["image"].transpose(0, 3, 1, 2),
    ),
}

HUB = {"vocabulary_size": TOKENS, "num_layers": 1, "hidden_dim": 24, "intermediate_dim": 40}
HEADS, GROUPED = {**HUB, "num_heads": 4}, {**HUB, "num_query_heads": 4, "num_key_value_heads": 2}
SHORT = {**HEADS, "max_sequence_length": 16, "dropout": 0.0}
FACES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 40}
TEXT = {**FACES, "vocab_size": TOKENS, "max_position_embeddings": 16}
DECODER = {**TEXT, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "pad_token_id": 0}
DROPLESS = {**TEXT, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IMAGE = {"num_layers": 1, "hidden_dim": 24, "num_heads": 4, "image_shape": (PIXELS, PIXELS, 3)}

PORTS = {
    "llama": Port(("Llama", GROUPED), ("Llama", DECODER)),
    "qwen": Port(("Qwen", GROUPED), ("Qwen2", DECODER)),
    "phi3": Port(("Phi3", GROUPED), ("Phi3", DECODER)),
    "smollm3": Port(
        (
            "SmolLM3",
            {
                **{
                    **HUB,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "attention_bias": False,
                    "mlp_bias": False,
                },
                **{"attention_dropout": 0.0, "layer_norm_epsilon": 1e-6, "max_position_embeddings": 16},
                **{"rope_layer_enabled_list": [True], "layer_types": ["full_attention"], "rope_theta": 1e4},
                "partial_rotary_factor": 1.0,
            },
        ),
        ("SmolLM3", {**DECODER, "no_rope_layers": [1], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    ),
    "opt": Port(
        ("OPT", SHORT),
        ("OPT", {**TEXT, "ffn_dim": 40, "word_embed_proj_dim": 24, "dropout": 0.0}),
    ),
    "falcon": Port(
        ("Falcon", {**HUB, "intermediate_dim": 96, "num_attention_heads": 4}),
        ("Falcon", {**TEXT, "alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}),
    ),
    "bloom": Port(
        ("Bloom", {**HEADS, "intermediate_dim": 96}),
        ("Bloom", {"vocab_size": TOKENS, "hidden_size": 24, "n_layer": 1, "n_head": 4}),
        cause="activation",  # the root of 2 / pi in its gelu has eight digits in transformers
    ),
    "gpt_neo_x": Port(
        ("GPTNeoX", {**SHORT, "hidden_dim": 32}),
        ("GPTNeoX", {**TEXT, "hidden_size": 32}),
        cause="activation",  # gelu by tanh in keras_hub, exact in transformers
    ),
    "distilbert": Port(
        ("DistilBert", SHORT),
        (
            "DistilBert",
            {
                **{"vocab_size": TOKENS, "max_position_embeddings": 16, "dropout": 0.0, "attention_dropout": 0.0},
                **{"dim": 24, "n_layers": 1, "n_heads": 4, "hidden_dim": 40},
            },
        ),
    ),
    "albert": Port(
        ("Albert", {**SHORT, "embedding_dim": 12}),
        ("Albert", {**DROPLESS, "embedding_size": 12, "hidden_act": "gelu_new"}),
        "segments",
        "sequence_output",
    ),
    "fnet": Port(
        ("FNet", {name: value for name, value in SHORT.items() if name != "num_heads"}),
        ("FNet", {**TEXT, "hidden_dropout_prob": 0.0}),
        "unmasked",
        "sequence_output",
    ),
    "dinov2": Port(
        (
            "DINOV2",
            {**IMAGE, "patch_size": PATCH, "position_embedding_shape": (PIXELS, PIXELS, 3)}
            | {"intermediate_dim": 96, "apply_layernorm": True},
        ),
        ("Dinov2", {**FACES, "mlp_ratio": 4, "image_size": PIXELS, "patch_size": PATCH}),
        "named image",
    ),
    "deit": Port(
        ("DeiT", {**IMAGE, "patch_size": (PATCH, PATCH), "intermediate_dim": 40, "layer_norm_epsilon": 1e-12}),
        ("DeiT", {**FACES, "image_size": PIXELS, "patch_size": PATCH}),
        "image",
    ),
}


def pair(name: str) -> xcheck.Pair:
    """The two models of one row."""
    port = PORTS[name]
    eats = EATS[port.eats]

    def build_keras() -> Any:
        import keras_hub

        kind, config = port.keras
        return getattr(keras_hub.models, f"{kind}Backbone")(**config)

    def build_torch() -> Any:
        import transformers

        kind, config = port.torch
        return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(eats.batch(rng))

    picked = {} if port.output is None else {"outputs": lambda raw: raw[port.output]}
    torch = {"prepare": lambda b: (eats.torch(b.inputs), None), "outputs": lambda raw: raw.last_hidden_state}
    keras = xcheck.KerasSide(build_keras, prepare=lambda b: (eats.keras(b.inputs), None), **picked)
    expect = xcheck.Expectation("DIFFERENT", "forward", port.cause) if port.cause else "EQUIVALENT"
    return xcheck.Pair(name, xcheck.TorchSide(build_torch, **torch), keras, batches, expect=expect)


globals().update({name: pair(name) for name in PORTS})  # for `xcheck run tests/helpers/backbones.py:llama`
