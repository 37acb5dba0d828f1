"""A dense layer reused in a functional graph is one weight."""

from __future__ import annotations

import pytest

from xcheck.cli import main
from xcheck.pairs.loading import load_pair

NAME = "shared_dense_functional"


@pytest.mark.parametrize("variant", ["PAIR", "THREE_USES"])
def test_the_square_form_trains_as_one_weight(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 4, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize(("variant", "calls"), [("PAIR", 2), ("THREE_USES", 3)])
def test_the_gradient_is_split_by_use(checked, uses, variant, calls):
    for part in ("weight", "bias"):
        found = uses(checked(f"{NAME}:{variant}"), f"shared.{part}")
        assert found == [f"shared (call {i + 1})" for i in range(calls)]


def test_the_graph_has_several_nodes_of_one_layer():
    layers = load_pair(f"{NAME}:THREE_USES").keras.build().layers
    assert [layer.name for layer in layers] == ["image", "shared", "head"]
    assert len(layers[1]._inbound_nodes) == 3


def test_as_written_the_error_names_both_sizes(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XCHECK_MODELS", "models")
    with pytest.raises(SystemExit) as ended:
        main(["run", NAME, "--set", "inputs=784", "--out", str(tmp_path)])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "torch model, called with this batch, raised RuntimeError" in said
    assert "784x64" in said
    assert "x64 and" in said
