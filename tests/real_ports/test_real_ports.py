"""Models of keras_hub against those of transformers: matched as the converters of keras_hub do, and run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras_hub")
pytest.importorskip("transformers")

import backbones

import xcheck
from xcheck.frameworks.sides import Sides, silent
from xcheck.matching import MatchPlan
from xcheck.pairs.loading import load_pair
from xcheck.phases.findings import Findings
from xcheck.phases.match import plan_of

FOLDER = Path(__file__).parent / "pairs"
DIGIT = 1024
"""A converter may round to float16, which holds whole numbers up to 2048: positions are sent digit by digit."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def vit_key(key: str) -> str:
    """The converter's names are those of checkpoints; transformers 5 calls the same parameters otherwise."""
    key = key.removeprefix("vit.").replace("encoder.layer.", "layers.")
    key = re.sub(r"attention\.attention\.(query|key|value)", lambda m: f"attention.{m[1][0]}_proj", key)
    for old, new in (
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        (".output.dense", ".mlp.fc2"),
    ):
        key = key.replace(old, new)
    return key


PORTS: dict[str, tuple[dict[str, Any], Callable[[str], str]]] = {
    "gpt2": ({"n_embd": 24}, lambda key: key),
    "mistral": ({}, lambda key: key),
    "vit": ({}, vit_key),
    "gemma": ({"model_type": "gemma"}, lambda key: key.removeprefix("model.")),
    "bert": ({}, lambda key: key),
    "bart": ({}, lambda key: key),
}
OPEN = {"bart": [f"{half}.embed_positions.weight" for half in ("encoder", "decoder")]}
"""Parameters of which some rows are never used, so that they have no counterpart."""

EXPECTED = {
    "gpt2": ("EQUIVALENT", None),
    "mistral": ("EQUIVALENT", None),
    "vit": ("DIFFERENT", "epsilon"),
    "gemma": ("EQUIVALENT", None),
    "bert": ("DIFFERENT", "activation"),
    "bart": ("EQUIVALENT", None),
}


class Loader:
    """Stands in for the loader of checkpoints, and keeps which element goes where."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], name: Callable[[str], str]) -> None:
        self.shapes, self.name = shapes, name
        self.found: dict[int, tuple[str, np.ndarray]] = {}

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
        key = self.name(hf_weight_key)
        positions = np.arange(np.prod(self.shapes[key])).reshape(self.shapes[key])
        digits = (positions % DIGIT, positions // DIGIT)
        made = [hook_fn(d.astype(np.float32), list(keras_variable.shape)) if hook_fn else d for d in digits]
        self.found[id(keras_variable)] = key, np.asarray(made[1], int) * DIGIT + np.asarray(made[0], int)


def planned(plan: MatchPlan, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, np.ndarray]]:
    """Keras path -> the PyTorch parameter it is set from, and the position there of each of its elements."""
    found: dict[str, tuple[str, np.ndarray]] = {}
    for match in plan.parameters:
        assert not match.keras_piece.part.cuts
        positions = np.arange(np.prod(shapes[match.torch])).reshape(shapes[match.torch])
        found[match.keras] = match.torch, match.to("keras", match.torch_piece.part.select(positions))
    return found


@pytest.mark.parametrize("name", PORTS)
def test_every_parameter_is_matched_as_the_converter_does(name):
    from importlib import import_module

    from xcheck.frameworks.keras.variables import canonical

    converter = import_module(f"keras_hub.src.utils.transformers.convert_{name}")
    config, rename = PORTS[name]
    pair = load_pair(str(FOLDER / f"{name}.py"))
    assert pair.weight_map is None
    sides = Sides(Findings(pair, 0, 1, (), complete=False), "cpu", silent)
    with sides.open("torch") as torch, sides.open("keras") as keras:
        plan = plan_of(pair, 0, torch.inventory(), keras, torch)
        shapes = {e.path: e.shape for e in torch.inventory().entries}
        loader = Loader(shapes, rename)
        converter.convert_weights(body_of(keras.model, converter.backbone_cls), loader, config)
        paths = {key: place.path for key, place in canonical(keras.model).items()}
        by_converter = {paths[key]: (path, positions) for key, (path, positions) in loader.found.items()}
    assert (list(plan.unmatched_torch), plan.unmatched_keras, plan.doubts) == (OPEN.get(name, []), (), ())
    assert list(plan.idle) == OPEN.get(name, [])
    by_value = planned(plan, shapes)
    assert by_value.keys() == by_converter.keys()
    for path, (key, positions) in by_converter.items():
        assert by_value[path][0] == key, path
        np.testing.assert_array_equal(by_value[path][1], positions, err_msg=path)


def body_of(model: Any, kind: type) -> Any:
    """The backbone, where the model has more around it: its layers under the names that the converter asks for."""
    if isinstance(model, kind):
        return model

    blocks = [layer for layer in model.layers if layer.name.startswith("transformer_layer_")]
    return SimpleNamespace(
        token_embedding=model.get_layer("token_embedding"),
        transformer_layers=blocks,
        num_layers=len(blocks),
        layer_norm=model.get_layer("sequence_output_layernorm"),
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_the_port_runs_without_a_map(name):
    verdict, cause = EXPECTED[name]
    path = FOLDER / f"{name}.py"
    assert sum(bool(line.strip()) for line in path.read_text().splitlines()) <= 25
    result = xcheck.check(load_pair(str(path)), steps=2, free_steps=0, precision=("float64",))
    assert result.verdict == verdict, result.report()
    assert {c.step for c in result.checks if c.phase == "update" and not c.further} == {1, 2}
    assert result.coverage["parameters"]["unmatched"] == 0
    assert result.coverage["parameters"].get("unused", 0) == len(OPEN.get(name, []))
    assert not [c.name for c in result.checks if c.verdict == "INCONCLUSIVE"]
    if cause is not None:
        assert result.first_divergence.phase == "forward"
        assert cause in [c.id for c in result.causes if c.confirmed and c.phase == "forward"]


@pytest.mark.parametrize("name", backbones.PORTS)
def test_a_backbone_runs_without_a_map_or_a_waiver(name):
    port = backbones.PORTS[name]
    result = xcheck.check(backbones.pair(name), steps=1, free_steps=0, precision=("float64",), reach="none")
    assert result.verdict == ("DIFFERENT" if port.cause else "EQUIVALENT"), result.report()
    parameters = result.coverage["parameters"]
    assert (parameters["unmatched"], parameters["waived"]) == (0, 0)
    assert not [c.name for c in result.checks if c.verdict == "INCONCLUSIVE"]
    inside = {(c.phase, c.id) for c in result.causes if c.confirmed and c.phase != "initialization"}
    assert inside == ({("forward", port.cause)} if port.cause else set())


def test_a_parameter_that_only_the_port_has_and_nothing_uses_does_not_end_the_run():
    """MistralBackbone holds the matrix of a head that MistralModel has not."""

    def build_torch() -> Any:
        from transformers import MistralConfig, MistralModel

        sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
        return MistralModel(MistralConfig(vocab_size=97, num_key_value_heads=2, sliding_window=5, **sizes))

    def build_keras() -> Any:
        from keras_hub.models import MistralBackbone

        return MistralBackbone(97, 2, 4, 24, 40, 2, sliding_window=5)

    whole = load_pair(str(FOLDER / "mistral.py"))
    torch = xcheck.TorchSide(build_torch, prepare=whole.torch.prepare, outputs=lambda raw: raw.last_hidden_state)
    made = xcheck.Pair("bare", torch, xcheck.KerasSide(build_keras), whole.batches)
    result = xcheck.check(made, steps=2, free_steps=0, precision=("float64",))
    assert result.verdict == "EQUIVALENT", result.report()
    unused = [c for c in result.checks if c.detail.startswith("unused: it has no counterpart")]
    assert [c.keras for c in unused] == ["token_embedding/reverse_embeddings"]
    assert {c.step for c in result.checks if c.phase == "update" and not c.further} == {1, 2}
