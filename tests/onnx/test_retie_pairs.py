"""The pairs of the repository whose exports store a tied weight more than once: each file is told, and mended."""

from contextlib import nullcontext

import pytest

import xcheck
from xcheck.cli import main
from xcheck.onnx.files import load, weights
from xcheck.pairs.loading import load_pair
from xcheck.phases import export as exporting

pytestmark = pytest.mark.slow

PHASES = ("inventory", "sync", "gradient", "export")

FILES = {"torch.onnx.export": "torch_0.onnx", "Model.export": "keras_0.onnx", "tf2onnx": "keras_1.onnx"}
KERAS = ("Model.export", "tf2onnx")
DUPLICATED = {
    "albert": tuple(FILES),
    "encoder_decoder_shared_embedding": tuple(FILES),
    "tied_autoencoder": tuple(FILES),
    "tied_language_model": KERAS,
    "weight_tied_transformer": tuple(FILES),
}
"""Name of a pair -> the exporters that store its tied weights more than once."""


def told(capsys, *arguments):
    """What `xcheck retie` says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["retie", *map(str, arguments)])
    assert ended.value.code == 0
    return capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("name", DUPLICATED)
def test_each_file_is_retied_from_every_source_and_computes_the_same(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exporting.tempfile, "TemporaryDirectory", lambda: nullcontext(str(tmp_path)))
    pair = load_pair(f"models/{name}/pair.py")
    result = xcheck.check(pair, steps=1, free_steps=0, precision=["float64"], phases=PHASES)
    monkeypatch.undo()
    assert result.verdict == "EQUIVALENT", result.report()
    assert "duplicated" in {tie.status for tie in result.ties}
    plan = result.to_json(tmp_path / "result.json")
    assert {e["route"] for e in result.exports if e["wasted_bytes"]} == set(DUPLICATED[name])
    for export in result.exports:
        path, out, wasted = tmp_path / FILES[export["route"]], tmp_path / "out.onnx", export["wasted_bytes"]
        if wasted:
            note = f"{export['side']} {export['route']} stores "
            assert any(n.startswith(note) and f"wasting {wasted} bytes" in n for n in result.notes)
            before = path.read_bytes()
            assert f"{wasted} bytes. Nothing was changed" in told(capsys, path)
            assert path.read_bytes() == before
        copies = [s["names"] for s in export["storages"] if len(s["names"]) > 1]
        by_hand = [word for first, *rest in copies for other in rest for word in ("--tie", f"{first}={other}")]
        for source in (["--plan", plan], ["--equal"], by_hand):
            if not source:
                continue
            said = told(capsys, path, "-o", out, *source)
            assert f"copies removed: {sum(len(names) - 1 for names in copies)}, bytes saved: {wasted};" in said
            assert "outputs bit-equal in onnxruntime, optimizations and prepacking off: 1 of 1 on 3 random" in said
            held = sum(w.nbytes for w in weights(load(path))) - sum(w.nbytes for w in weights(load(out)))
            assert held == wasted
