"""The tie table has every stage: the build, the sync, every step, saving and exporting.

That it does so for every pair whose sides agree is held by the fixture `checked`; here are the exports.
"""

import pytest

import xcheck
from xcheck.pairs.loading import load_pair
from xcheck.report.terminal import as_text
from xcheck.report.ties import STAGES

EXPORTERS = {"torch": {"torch.onnx.export"}, "keras": {"Model.export", "tf2onnx"}}


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
