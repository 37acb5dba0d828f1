"""The calibration counts what it says it counts, and its counting can fail."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("keras")

bench: Any = importlib.import_module("bench_calibration")

TINY = bench.Plan(seeds=1, sizes=(4,), decades=(1e-3,), only=("SGD with momentum",), compiled=0)


def a_run(
    verdict: str = "EQUIVALENT", float64: tuple[float, ...] = (), float32: tuple[float, ...] = (), mode: str = "eager"
) -> Any:
    worst = {"ratio": 1.0, "error": 1.0, "allowed": 1.0, "phase": "loss", "item": "data", "step": 1, "metric": "norm"}
    row = bench.place("made up", mode, 0, 4, 1) | {"verdict": verdict, "report": ["no"]}
    ratios = {"float64": list(float64), "float32": list(float32)}
    return row | {"ratios": ratios, "worst": {p: {**worst, "ratio": max(r)} for p, r in ratios.items() if r}}


def sheet(rows: list[Any], title: str) -> Any:
    return next(s for s in bench.sheets(rows) if s.title == title)


@pytest.mark.slow
def test_an_equal_pair_raises_no_alarm_and_a_planted_one_does() -> None:
    equal, wrong = rows = list(bench.alarms(replace(TINY, plant=True), 1))
    assert (equal["verdict"], wrong["verdict"]) == ("EQUIVALENT", "DIFFERENT")
    assert bench.false_alarms(rows) == [wrong]
    assert wrong["report"][0].startswith("DIFFERENT")
    assert wrong["worst"]["float64"]["phase"] == "update"
    assert wrong["worst"]["float64"]["ratio"] > 1
    assert max(equal["ratios"]["float64"]) <= 1
    assert equal["ratios"]["float32"]


@pytest.mark.slow
def test_free_steps_belong_to_every_fourth_run() -> None:
    counts = [len(row["ratios"]["float64"]) for row in bench.alarms(replace(TINY, seeds=5), 1)]
    assert counts[0] == counts[4] == counts[1] + 2 * bench.FREE_STEPS
    assert counts[1] == counts[2] == counts[3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["saturated", "ill-conditioned", "chaotic training", "large rate", "1e-12", "diverging"]
)
def test_a_pair_that_is_hard_on_the_noise_model_raises_no_alarm(name: str) -> None:
    rows = list(bench.alarms(bench.Plan(seeds=1, sizes=(4,), only=(name,), compiled=0), 1))
    assert rows
    assert not bench.false_alarms(rows), rows
    assert all({*row["ratios"]} == {"float64"} for row in rows)


def test_the_hard_pairs_are_more_than_a_thousand_runs_with_the_others() -> None:
    assert sum(bench.DEFAULT.runs(n) for n in bench.THREADS) >= 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["learning rate", "LeakyReLU slope", "L2 factor", "dropout rate"])
def test_a_changed_setting_is_seen_and_an_unchanged_one_is_not(name: str) -> None:
    (setting,) = [s for s in bench.SETTINGS if s.name == name]
    assert bench.changed(setting, 1e-3).verdict == "DIFFERENT"
    assert bench.changed(setting, 0.0).verdict == "EQUIVALENT"


def rows_of(monkeypatch: pytest.MonkeyPatch, *settings: Any, decades: tuple[float, ...] = (1e-3, 1e-6)) -> list[Any]:
    monkeypatch.setattr(bench, "SETTINGS", settings)
    return list(bench.sensitivity(bench.Plan(decades=decades)))


def test_the_search_ends_at_the_first_change_that_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rate = bench.Setting("rate", "learning_rate", bench.mlp())
    (row,) = rows_of(monkeypatch, rate, decades=(1e-3, 1e-15, 1e-17))
    assert (row["smallest"], row["unseen"], row["phase"], row["step"]) == (1e-3, 1e-15, "update", 1)


def test_a_number_that_the_pair_does_not_use_is_never_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(monkeypatch, bench.Setting("unused", "dropout", bench.mlp()))
    assert (rows[0]["smallest"], rows[0]["unseen"]) == (None, 1e-3)
    assert sheet(rows, "Sensitivity").rows[0][2:4] == ("none", "1e-03")


def test_a_pair_that_is_wrong_from_the_start_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(monkeypatch, bench.Setting("rate", "learning_rate", bench.planted))
    assert rows[0]["not_compared"] == "DIFFERENT without any change"
    assert "not compared" in sheet(rows, "Sensitivity").rows[0]


def test_a_change_that_the_framework_refuses_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    share = bench.Setting("share", "beta_2", bench.mlp("keras adam"), most=1.0)
    (row,) = rows_of(monkeypatch, share, decades=(1e-2, 1e-4))
    assert row["smallest"] == 1e-4


def test_every_comparison_is_in_one_bin() -> None:
    ratios = (0.0, 1e-300, 1e-9, 0.05, 0.9999, 1.0, 20.0)
    rows = [a_run(float64=ratios, float32=(0.5,)), a_run("NUMERIC", float32=(3.0, 1e-3))]
    rows.append(a_run(float64=(0.0, 0.0), float32=(0.05,), mode="compiled"))
    histogram = sheet(rows, "Error as a share of its allowance").rows
    assert {label: tuple(map(int, counts)) for label, *counts in histogram} == {
        "0 (bit for bit)": (1, 0, 2, 0),
        "below 1e-5": (2, 0, 0, 0),
        "1e-3 ... 1e-2": (0, 1, 0, 0),
        "1e-2 ... 1e-1": (1, 0, 0, 1),
        "1e-1 ... 1e0": (1, 1, 0, 0),
        "1e0 ... 1e1": (1, 1, 0, 0),
        "1e1 ... 1e2": (1, 0, 0, 0),
    }
    assert bench.summary(rows) == "3 runs, 13 comparisons, 1 false alarms"


def test_every_pair_is_compiled_once_and_in_the_slow_mode_with_each_number_of_threads() -> None:
    once = [name for n in bench.THREADS for name, _ in bench.DEFAULT.to_compile(n)]
    assert sorted(once) == sorted(bench.EQUAL)  # the extreme pairs are not among them
    assert {name for name, _ in bench.SLOW.to_compile(1)} == {name for name, _ in bench.SLOW.to_compile(2)} == {*once}
    assert sum(bench.DEFAULT.runs(n) for n in bench.THREADS) >= 500


@pytest.mark.slow
def test_a_compiled_run_compares_each_side_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from xcheck.frameworks.torch.runner import TorchRunner

    monkeypatch.setattr(TorchRunner, "modes", lambda self: ())  # compiling with PyTorch takes half a minute
    plan = replace(TINY, seeds=0, compiled=1, stride=1)
    (row,) = bench.alarms(plan, 1)
    assert (row["mode"], row["verdict"]) == ("compiled", "EQUIVALENT"), row["report"]
    assert {*row["ratios"]} == {"float64", "float32"}
    assert row["worst"]["float64"]["phase"] == "modes"


@pytest.mark.parametrize("verdict", ["DIFFERENT", "INCONCLUSIVE", "NUMERIC"])
def test_any_verdict_but_equivalent_is_an_alarm(verdict: str) -> None:
    rows = [a_run(float64=(0.1,)), a_run(verdict)]
    assert len(bench.false_alarms(rows)) == 1
    assert sheet(rows, "False alarms").rows[-1][:5] == ("all", "2", "0", "1", f"1 {verdict}")


def test_alarms_are_listed_with_their_worst_place() -> None:
    rows = [a_run(float64=(0.1,)), a_run("DIFFERENT", (20.0,)), a_run("DIFFERENT", (3.0,)), a_run("INCONCLUSIVE")]
    assert sheet(rows, "Alarms").rows == [
        ("made up", "DIFFERENT", "2", "loss", "data, step 1, by norm", "1", "1"),
        ("made up", "INCONCLUSIVE", "1", "", "", "", ""),
    ]


def test_the_largest_ratio_is_shown_with_its_place() -> None:
    first, second = sheet([a_run(float64=(0.1,)), a_run(float64=(0.4,), float32=(0.2,))], "Largest ratios").rows
    assert first[:4] == ("float64", "0.4", "loss", "data, step 1, by norm")
    assert second[:2] == ("float32", "0.2")


def test_the_page_has_whole_tables() -> None:
    text = bench.page([a_run(float64=(0.1,), float32=(0.2,))])
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    assert "1 runs, 2 comparisons, 0 false alarms" in text


def test_a_plan_survives_the_way_to_its_process() -> None:
    plan = replace(bench.QUICK, only=("a", "b"), plant=True)
    text = json.dumps(bench.asdict(plan))
    assert bench.plan_of(bench.options().parse_args(["--plan", text])) == plan


@pytest.mark.slow
def test_a_process_that_fails_is_not_passed_over() -> None:
    with pytest.raises(RuntimeError, match="alarms with 1 threads failed"):
        bench.in_process("alarms", 1, bench.Plan(seeds="no number"), None, lambda _: None)


@pytest.mark.slow
def test_the_exit_code_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = bench.in_process

    def here(part: str, threads: int, plan: Any, path: Any, tell: Any) -> None:
        """One process is proof enough that processes work; each takes as long to start as a run."""
        if (part, threads, plan.plant) == ("alarms", 2, False):
            alone(part, threads, plan, path, tell)
        else:
            for row in bench.work(part, threads, plan):
                tell(row)

    monkeypatch.setattr(bench, "in_process", here)
    few = ["--quick", "--seeds", "1", "--compiled", "0", "--jobs", "1"]  # two threads would share what Keras keeps
    only = ["--only", "SGD with momentum", "--only", "learning rate"]
    rows, page = tmp_path / "rows.json", tmp_path / "page.md"
    assert bench.main([*few, *only, "--json", str(rows), "--write", "--page", str(page)]) == 0
    assert "2 runs" in capsys.readouterr().out
    written = json.loads(rows.read_text())
    assert sorted(row["threads"] for row in written if row["kind"] == "run") == [1, 2]
    assert [row["smallest"] for row in written if row["kind"] == "setting"] == [1e-6]
    assert "| learning rate |" in page.read_text()
    assert bench.main([*few, "--only", "none of them", "--plant"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("FALSE ALARM, DIFFERENT: planted fault") == 2
    assert "2 runs" in printed
    assert "2 false alarms" in printed


def test_rows_that_are_kept_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    kept = {
        key: value for key, value in a_run(float64=(0.5,)).items() if key in ("verdict", "ratios", "report", "worst")
    }
    monkeypatch.setattr(bench, "run", lambda case, size, seed, *rest: measured.append(seed))
    monkeypatch.setattr(bench, "row_of", lambda result: kept)
    plan, file = replace(TINY, seeds=3), tmp_path / "rows.jsonl"
    rows = list(bench.alarms(plan, 1))
    assert measured == [0, 1, 2]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]) + '{"kind": "run", "ca')
    assert bench.kept_rows(file) == rows[:2]
    assert list(bench.alarms(plan, 1, bench.kept_rows(file))) == rows[2:]
    assert len(list(bench.alarms(plan, 2, rows))) == 3
