"""Faults planted in what the frameworks' own exporters write: each is found, named and explained."""

from contextlib import contextmanager

import numpy as np
import onnx
import onnx_files
import ports
import pytest

import xcheck
from xcheck.cli import main
from xcheck.onnx.files import load

pytestmark = pytest.mark.slow
PHASES = ("inventory", "sync", "export")


def run(pair):
    return xcheck.check(pair, steps=1, free_steps=0, phases=PHASES, precision=("float64",))


def causes(result):
    return [(c.id, c.torch or c.keras, c.evidence["route"], c.confirmed) for c in result.causes]


def changed_after(monkeypatch, exporter, change):
    """Every file that an exporter writes is changed by `change(model)` afterwards."""
    export = exporter.export

    def changed(self, route, path, batch, other):
        written = export(self, route, path, batch, other)
        made = onnx.load(path)
        change(made)
        onnx.save(made, path)
        return written

    monkeypatch.setattr(exporter, "export", changed)


def square_torch():
    from torch import nn

    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 6), nn.Linear(6, 3))


def square_keras():
    import keras

    layers = [
        keras.Input((6,)),
        keras.layers.Dense(6, activation="tanh", name="a"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(6, name="b"),
        keras.layers.Dense(3, name="c"),
    ]
    return keras.Sequential(layers)


def square(**options):
    names = {"0": "a", "3": "b", "4": "c"}
    roles = {"weight": "kernel", "bias": "bias"}
    weight_map = {f"{t}.{r}": f"sequential/{k}/{s}" for t, k in names.items() for r, s in roles.items()}
    return ports.mlp(torch={"build": square_torch}, keras={"build": square_keras}, weight_map=weight_map, **options)


def test_the_pair_without_a_fault_passes():
    result = run(square())
    assert result.verdict == "EQUIVALENT", result.report()
    assert not result.causes


def test_initializers_wrongly_merged_are_named(monkeypatch):
    from xcheck.frameworks.torch.export import TorchExporter

    def merge(made):
        for node in made.graph.node:
            node.input[:] = ["0.weight" if name == "3.weight" else name for name in node.input]
        (lost,) = [i for i in made.graph.initializer if i.name == "3.weight"]
        made.graph.initializer.remove(lost)

    changed_after(monkeypatch, TorchExporter, merge)
    result = run(square())
    assert result.verdict == "DIFFERENT"
    assert causes(result) == [("initializers_merged", "3.weight", "torch.onnx.export", True)]
    assert result.causes[0].evidence["used"] == "0.weight"
    (lost,) = [c for c in result.checks if c.name == "torch.onnx.export: 3.weight"]
    assert lost.detail.startswith("no constant has its values")


def test_an_export_taken_in_training_mode_is_named(monkeypatch):
    from xcheck.frameworks.torch import export as torch_export

    @contextmanager
    def training(model):
        model.train()
        yield
        model.eval()

    monkeypatch.setattr(torch_export, "_inference", training)
    result = run(square())
    assert result.verdict == "DIFFERENT"
    assert causes(result) == [("exported_in_training_mode", "torch.onnx.export", "torch.onnx.export", True)]
    (told,) = [c for c in result.checks if c.name == "torch.onnx.export: operators"]
    assert "Dropout" in told.detail


def test_an_operator_that_the_exporters_lack_is_one_message_each():
    import torch
    from torch import nn

    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    def build_torch():
        return nn.Sequential(nn.Linear(6, 6), Bessel(), nn.Linear(6, 3))

    def build_keras():
        import keras
        import tensorflow as tf

        layers = [keras.layers.Dense(6, name="a"), keras.layers.Lambda(tf.math.special.bessel_j0)]
        return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3, name="b")])

    names = {"0": "a", "2": "b"}
    weight_map = {f"{t}.{r}": f"{k}/{s}" for t, k in names.items() for r, s in (("weight", "kernel"), ("bias", "bias"))}
    weight_map = {path: f"sequential/{variable}" for path, variable in weight_map.items()}
    result = run(ports.mlp(torch={"build": build_torch}, keras={"build": build_keras}, weight_map=weight_map))
    assert result.verdict == "INCONCLUSIVE", result.report()
    bad = {c.name: c.detail for c in result.checks if c.verdict != "EQUIVALENT"}
    assert set(bad) == {"torch.onnx.export", "Model.export", "tf2onnx"}
    assert all(told.startswith("not exported: ") and "\n" not in told for told in bad.values())
    assert "No ONNX function found for <OpOverload(op='prims.bessel_j0'" in bad["torch.onnx.export"]
    for route in ("Model.export", "tf2onnx"):
        assert "the exporter cannot translate BesselJ0; the file contains it" in bad[route]
    (models,) = [c for c in result.checks if c.name == "output: models in float32"]
    assert models.verdict == "EQUIVALENT"  # the rest of the phase goes on


def language_model():
    from xcheck.pairs.loading import load_pair

    return load_pair("models/tied_language_model/pair.py")


def test_one_altered_alias_of_a_tied_weight_is_named(monkeypatch):
    from xcheck.frameworks.keras.export import KerasExporter

    def change(head):
        head[3, 5] *= 1.5
        return head

    def alter(made):
        (head,) = [i.name for i in made.graph.initializer if i.name.endswith("transpose:0")]
        onnx_files.with_weight(head, change)(made)

    changed_after(monkeypatch, KerasExporter, alter)
    result = run(language_model())
    assert result.verdict == "DIFFERENT"
    assert {c.id for c in result.causes} == {"initializer_altered"}
    assert all(c.confirmed for c in result.causes)


def test_a_duplicated_tie_is_said_and_retied_by_its_plan(tmp_path, capsys):
    import keras

    result = run(language_model())
    assert result.verdict == "EQUIVALENT", result.report()
    assert [t.status for t in result.ties] == ["duplicated"]
    assert any("stores embedding/embeddings more than once, " in note for note in result.notes)
    plan = result.to_json(tmp_path / "result.json")

    path, out = tmp_path / "mine.onnx", tmp_path / "retied.onnx"
    language_model().keras.build()  # what a process has made before changes the names in the next file
    model = language_model().keras.build()
    model(keras.ops.convert_to_tensor(np.zeros((2, 5), np.int32)))
    model.export(path, format="onnx", verbose=False)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["retie", str(path), "-o", str(out), "--plan", str(plan)])
    assert ended.value.code == 0
    assert "outputs bit-equal in onnxruntime" in capsys.readouterr().out
    saved = path.stat().st_size - out.stat().st_size
    wasted = next(e["wasted_bytes"] for e in result.exports if e["side"] == "keras")
    assert wasted * 0.9 < saved <= wasted
    assert len(load(out).graph.initializer) == len(load(path).graph.initializer) - 1
