"""Two sweeps compared: equal results pass whatever their timings, and each kind of change is named."""

import json

import pytest
from compare_results import main

CHECK = {"phase": "update", "name": "w", "error": 1e-16}
NAMED = [("x", "model_1/block_1", 12), ("y", "model_1/block_5", 31)]
RESULT = {"verdict": "EQUIVALENT", "checks": [CHECK], "causes": [], "timings": {"train": 1.0}}


def write(folder, **changes):
    path = folder / "a" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**RESULT, **changes}))
    return folder


def test_timings_may_differ(tmp_path):
    assert main(write(tmp_path / "x"), write(tmp_path / "y", timings={"train": 2.0})) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "DIFFERENT"}, "verdict: EQUIVALENT -> DIFFERENT"),
        ({"checks": [{**CHECK, "error": 2e-16}]}, "checks: 1 gone, 1 new (update: w"),
        ({"causes": [{"phase": "update", "id": "epsilon"}]}, "causes: 0 gone, 1 new (update: epsilon)"),
    ],
)
def test_a_change_is_named(tmp_path, capsys, changes, said):
    assert main(write(tmp_path / "x"), write(tmp_path / "y", **changes)) == 1
    assert said in capsys.readouterr().out


def exported(name, dtype="float32"):
    check = {"phase": "export", "name": "node", "error": 0.0, "detail": f"{name}: {dtype}"}
    return {"checks": [check], "exports": {"keras": {"outputs": {name: dtype}}}}


def test_a_counter_made_up_by_an_exporter_may_differ(tmp_path):
    before, after = (write(tmp_path / side, **exported(f"{name}/MatMul__{n}")) for side, name, n in NAMED)
    assert main(before, after) == 0


def test_a_type_of_an_export_is_no_counter(tmp_path, capsys):
    before, after = (write(tmp_path / dtype, **exported("w_1/MatMul", dtype)) for dtype in ("float32", "float64"))
    assert main(before, after) == 1
    assert "exports: " in capsys.readouterr().out


def test_nothing_to_compare_is_no_pass(tmp_path):
    assert main(tmp_path, tmp_path) == 1


def test_a_missing_result_is_named(tmp_path, capsys):
    assert main(write(tmp_path / "x"), tmp_path / "y") == 1
    assert "missing in" in capsys.readouterr().out
