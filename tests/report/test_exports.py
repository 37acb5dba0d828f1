"""The files that a run exported, side by side in the terminal and on the page."""

from dataclasses import replace

from results import HOSTILE, equivalent
from rich.cells import cell_len

from xcheck.records.result import Tie
from xcheck.report.exports import export_table
from xcheck.report.html import as_html
from xcheck.report.terminal import as_text


def file(side, route, operators, copies=1):
    return {
        "side": side,
        "route": route,
        "producer": "pytorch 2.9.0",
        "opset": {"ai.onnx": 20, "ai.onnx.ml": 2},
        "operators": operators,
        "weights": 4,
        "weight_bytes": 48200,
        "leftovers": [],
        "storages": [{"paths": ["w"], "names": ["n"] * copies, "layouts": ["identity"] * copies, "wasted": 320}],
        "wasted_bytes": 320 * (copies - 1),
    }


def exported(route="torch.onnx.export"):
    files = (file("torch", route, {"Conv": 3, "Gemm": 1}), file("keras", "tf2onnx", {"Conv": 3, "MatMul": 2}, copies=3))
    ties = (Tie(("a.weight", "b.weight"), ("shared/kernel",), "duplicated"),)
    return replace(equivalent(), exports=files, ties=ties)


def test_the_files_stand_side_by_side():
    table = {row[0]: row[1:] for row in export_table(exported(), operators=True)}
    assert table[""] == ("torch torch.onnx.export", "keras tf2onnx")
    assert table["opset"] == ("ai.onnx 20, ai.onnx.ml 2",) * 2
    assert table["stored again"] == ("", "2, 640 bytes")
    assert table["operators"] == ("4", "5")
    assert [table[name] for name in ("  Conv", "  Gemm", "  MatMul")] == [("3", "3"), ("1", ""), ("", "2")]
    assert "of training" not in table  # a line without anything to say is left out


def test_nothing_is_said_where_nothing_was_exported():
    assert export_table(equivalent(), operators=True) == []
    assert "Exports" not in as_text(equivalent())
    assert "Exports" not in as_html([equivalent()])


def test_operators_are_listed_where_details_are_asked_for():
    short, long = as_text(exported()), as_text(exported(), verbose=True)
    assert "Exports" in short
    assert "MatMul" not in short
    assert "MatMul" in long
    assert "<td>2, 640 bytes</td>" in as_html([exported()])
    assert "duplicated" in short


def test_hostile_names_reach_neither_terminal_nor_page():
    for width in (60, 80, 140):
        text = as_text(exported(HOSTILE), width=width, verbose=True)
        assert "\x1b" not in text
        assert max(map(cell_len, text.splitlines())) <= width
    assert "<script>alert" not in as_html([exported(HOSTILE)])
