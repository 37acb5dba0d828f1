"""Every pair whose sides agree has a tie table: after the build, the sync, every step, saving and exporting."""

from pathlib import Path

import pytest

import xcheck
from xcheck.loading import load_pair
from xcheck.report.terminal import as_text
from xcheck.report.ties import STAGES

NAMES = sorted(path.parent.name for path in Path("models").glob("*/pair.py"))
CONTROLS = {"shared_dense_subclass": "CORRECTED", "transferred_weights": "CORRECTED"}
"""Pairs that are negative controls themselves -> their variant that agrees."""

UNSHARED = {"independent_regularizers", "shared_initializer", "shared_unit_norm_lstm"}
"""Their layers share a regulariser, an initializer or a constraint, and no weight."""

ROUTES = {
    "torch": {"state_dict", "assign=True", "safetensors", "deepcopy", "to(dtype)"},
    "keras": {".keras", ".weights.h5", "clone_model", "from_config"},
}
EXPORTERS = {"torch": {"torch.onnx.export"}, "keras": {"Model.export", "tf2onnx"}}


def spec(name):
    return f"{name}:{CONTROLS[name]}" if name in CONTROLS else name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_tie_table_has_every_stage_that_ran(checked, name):
    result = checked(spec(name))
    assert result.verdict == "EQUIVALENT"
    assert bool(result.ties) == (name not in UNSHARED)
    for tie in result.ties:
        assert set(tie.uses) == {"torch", "keras"}
        assert min(tie.uses.values()) > 0
        assert tie.stages["build"]["torch"] == {"build": "tied"}
        assert [set(tie.stages["sync"][side].values()) for side in ROUTES] == [
            {"same"},
            {"same" if tie.tied("keras") else "apart"},
        ]
        for side, routes in ROUTES.items():
            assert set(tie.stages["step"][side]) == {f"step {n}" for n in range(1, result.steps + 1)}
            if tie.tied(side):
                assert set(tie.stages["save"][side]) == routes
                assert set(tie.stages["save"][side].values()) <= {"same", "untied by design"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared_conv_padding", "shared_dense_functional", "tied_autoencoder"])
def test_with_the_exports_there_are_five_stages_on_the_terminal_and_in_the_file(name, tmp_path):
    result = xcheck.check(load_pair(f"models/{name}/pair.py"), steps=1, free_steps=0, precision=["float64"])
    for tie in xcheck.Result.from_json(result.to_json(tmp_path / "result.json")).ties:
        assert set(tie.stages) == set(STAGES)
        assert {side: set(by) for side, by in tie.stages["export"].items()} == EXPORTERS
    table = as_text(result, width=120).split("Tie groups\n")[1].split("Exports\n")[0]
    shown = [row.strip().partition("  ")[0] for row in table.splitlines()]
    assert [word for word in shown if word in STAGES.values()] == list(STAGES.values())
