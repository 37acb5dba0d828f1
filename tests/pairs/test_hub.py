"""Pairs of keras_hub backbones and models of transformers, built from one configuration."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("keras_hub")
pytest.importorskip("transformers")

import xcheck
from xcheck.errors import FileError, PairError
from xcheck.pairs.hub import hub_pair, shrunk, write_hub_pair
from xcheck.pairs.loading import load_pair

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_sizes_shrink_and_nothing_else_does() -> None:
    settings = {
        **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12},
        **{"max_position_embeddings": 514, "eos_token_id": 50256, "layer_types": ["full"] * 12, "rms_norm_eps": 1e-5},
    }
    found = shrunk(settings)
    assert found == {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4},
        **{"max_position_embeddings": 34, "eos_token_id": 1, "layer_types": ["full"] * 2, "rms_norm_eps": 1e-5},
    }


def test_what_cannot_be_a_pair_is_said(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="no model of transformers to WhisperlessBackbone"):
        hub_pair("Whisperless", "GPT2Config")
    with pytest.raises(PairError, match="no configuration class GPTTooConfig"):
        hub_pair("GPT2", "GPTTooConfig")
    with pytest.raises(FileError, match="cannot be read"):
        hub_pair("GPT2", str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text('{"n_embd": 8}')
    with pytest.raises(FileError, match="no model_type"):
        hub_pair("GPT2", str(tmp_path / "config.json"))


def test_a_setting_that_a_class_lacks_is_named() -> None:
    with pytest.raises(PairError, match=r"(?s)needs a setting .* 'head_dim' is not in Qwen3MoeConfig"):
        hub_pair("Qwen3Moe", "Qwen3MoeConfig", tiny=True).keras.build()


def test_a_file_that_was_edited_is_kept(tmp_path: Path) -> None:
    path = write_hub_pair("GPT2", "GPT2Config", True, tmp_path)
    assert write_hub_pair("GPT2", "GPT2Config", True, tmp_path) == path
    path.write_text(edited := path.read_text() + "# mine\n")
    with pytest.raises(PairError, match="A different pair file"):
        write_hub_pair("GPT2", "GPT2Config", True, tmp_path)
    assert path.read_text() == edited


def test_a_batch_holds_what_the_backbone_takes() -> None:
    batch = next(hub_pair("Bert", "BertConfig", tiny=True).batches(0))
    assert {*batch.inputs} == {"ids", "mask", "segments"}
    assert batch.inputs["ids"].max() < 97
    assert {*batch.inputs["segments"].flat} == {0, 1}
    image = next(hub_pair("ViT", "ViTConfig", tiny=True).batches(0)).inputs["image"]
    assert image.shape == (2, 16, 16, 3)


def test_a_converter_that_needs_a_missing_package_keeps_no_other_from_being_used(monkeypatch: Any) -> None:
    real = importlib.import_module

    def without_one(name: str, *package: Any) -> Any:
        if name.endswith("convert_gpt2"):
            raise ModuleNotFoundError("no tokenizer", name="tokenizer")
        return real(name, *package)

    monkeypatch.setattr(importlib, "import_module", without_one)
    assert next(hub_pair("Bert", "BertConfig", tiny=True).batches(0))
    with pytest.raises(PairError, match="convert_gpt2 needs tokenizer"):
        hub_pair("GPT2", "GPT2Config", tiny=True)


BACKBONES = {
    "GPT2": ("GPT2Config", None),
    "Qwen3": ("Qwen3Config", "epsilon"),  # its norms of queries and keys have 1e-5 whatever the configuration says
    "Bert": ("BertConfig", "activation"),  # gelu by tanh
}
"""Backbone -> class of its configuration, and the cause of its difference from transformers, if there is one."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_checked_by_its_name_and_configuration(name: str, tmp_path: Path) -> None:
    config, cause = BACKBONES[name]
    path = write_hub_pair(f"{name}Backbone", config, True, tmp_path)
    result = xcheck.check(load_pair(str(path)), steps=1, free_steps=0, precision=("float64",), reach="none")
    assert result.verdict == ("DIFFERENT" if cause else "EQUIVALENT"), result.report()
    assert result.coverage["parameters"]["unmatched"] == 0
    found = {(c.phase, c.id) for c in result.causes if c.confirmed and c.phase != "initialization"}
    assert found == ({("forward", cause)} if cause else set())


@pytest.mark.slow
def test_a_published_file_is_a_configuration_too(tmp_path: Path) -> None:
    import transformers

    settings: dict[str, Any] = transformers.GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(settings))
    pair = hub_pair("GPT2Backbone", str(tmp_path / "config.json"))
    assert pair.torch.build().wte.weight.shape == (50, 16)
    assert pair.keras.build().token_embedding.embeddings.shape == (50, 16)
