"""The pytest plugin, run inside pytest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAIR = """
import numpy as np
import xcheck
from xcheck.frameworks.fake.runner import NumpySide

def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 3)), rng.standard_normal((8, 2)))

def pair(learning_rate=0.1, name="linear", **options):
    return xcheck.Pair(
        name, NumpySide("torch"), NumpySide("keras", learning_rate=learning_rate), batches,
        weight_map={"linear.weight": "dense/kernel", "linear.bias": "dense/bias"}, **options,
    )

PAIR = pair()
"""


def make(pytester: pytest.Pytester, test: str) -> None:
    pytester.makepyfile(pairs=PAIR, test_it=f"from pairs import pair\n{test}")


def test_the_fixture_passes_and_returns_the_result(pytester: pytest.Pytester) -> None:
    make(pytester, "def test_a(xcheck_run):\n    assert xcheck_run(pair(), steps=3).steps == 3")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_the_fixture_fails_with_the_report(pytester: pytest.Pytester) -> None:
    make(pytester, "def test_a(xcheck_run):\n    xcheck_run(pair(learning_rate=0.1000001), steps=3)")
    outcome = pytester.runpytest_inprocess()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*DIFFERENT  linear*"])
    outcome.stdout.no_fnmatch_line("*Traceback*")


def test_a_users_mistake_fails_with_its_message(pytester: pytest.Pytester) -> None:
    make(pytester, "def test_a(xcheck_run):\n    xcheck_run(pair(), steps=0)")
    outcome = pytester.runpytest_inprocess()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*A check needs at least one step.*"])


def test_a_negative_control_passes_when_its_expectation_holds(pytester: pytest.Pytester) -> None:
    make(
        pytester,
        "def test_a(xcheck_run):\n    xcheck_run(pair(learning_rate=0.2, expect='DIFFERENT'))\n"
        "def test_b(xcheck_run):\n    xcheck_run(pair(expect='DIFFERENT'))",
    )
    outcome = pytester.runpytest_inprocess()
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*expected DIFFERENT, got EQUIVALENT*"])


def test_an_accepted_difference_passes_and_is_shown(pytester: pytest.Pytester) -> None:
    make(
        pytester,
        "def test_a(xcheck_run):\n"
        "    xcheck_run(pair(learning_rate=0.2, accept=['weight linear.weight', 'weight linear.bias']))",
    )
    outcome = pytester.runpytest_inprocess()
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(["*accepted differences*", "*apart from accepted differences*linear.weight*"])


def test_the_session_is_collected(pytester: pytest.Pytester) -> None:
    make(
        pytester,
        "def test_a(xcheck_run):\n    xcheck_run(pair())\n"
        "def test_b(xcheck_run):\n    xcheck_run(pair(learning_rate=0.2))",
    )
    pytester.runpytest_inprocess("--xcheck-html=all.html", "--xcheck-json=out").assert_outcomes(passed=1, failed=1)
    page = (pytester.path / "all.html").read_text()
    assert "DIFFERENT" in page
    assert "EQUIVALENT" in page
    written = {json.loads(p.read_text())["verdict"] for p in Path(pytester.path / "out").glob("*/result.json")}
    assert written == {"EQUIVALENT", "DIFFERENT"}  # two runs of one name do not overwrite each other


def test_pair_files_are_tests(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("ports")
    (folder / "linear").mkdir()
    (folder / "linear" / "pair.py").write_text(PAIR + "WRONG = pair(learning_rate=0.2)\n")
    (folder / "broken").mkdir()
    (folder / "broken" / "pair.py").write_text("import no_such_module")
    outcome = pytester.runpytest_inprocess("--xcheck-pairs=ports", "ports/linear")
    outcome.assert_outcomes(passed=1, failed=1)
    outcome = pytester.runpytest_inprocess("--xcheck-pairs=ports", "ports/broken")
    outcome.assert_outcomes(errors=1)
    outcome.stdout.fnmatch_lines(["*raised ModuleNotFoundError*"])
    pytester.runpytest_inprocess("ports").assert_outcomes()  # only where asked for


@pytest.mark.parametrize("processes", [0, 2])
def test_every_worker_hands_its_results_to_the_session(pytester: pytest.Pytester, processes: int) -> None:
    names = ["a", "b", "c", "d"]
    pytester.makepyfile(pairs=PAIR)
    for name in names:
        text = f"from pairs import pair\ndef test_it(xcheck_run):\n    xcheck_run(pair(name={name!r}), steps=1)"
        pytester.makepyfile(**{f"test_{name}": text})
    pytester.makepyfile(
        test_fixture="import pytest\nfrom pairs import pair\n"
        "@pytest.fixture\ndef made(xcheck_run):\n    return xcheck_run(pair(name='in_a_fixture'), steps=1)\n"
        "def test_it(made):\n    assert made.verdict == 'EQUIVALENT'"
    )
    stale = pytester.mkdir("out") / "of_an_earlier_session"
    stale.mkdir()
    (stale / "result.json").write_text("{}")
    arguments = ["--xcheck-html=all.html", "--xcheck-json=out", "-n", str(processes), "--dist", "loadfile"]
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=5)
    assert {p.parent.name for p in pytester.path.glob("out/*/result.json")} == {*names, "in_a_fixture"}
    page = (pytester.path / "all.html").read_text()
    assert all(f">{name}<" in page or f"{name}:" in page for name in [*names, "in_a_fixture"])
