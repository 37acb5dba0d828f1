"""The pytest plugin: options, the fixture `xcheck_run`, and pair files as tests.

The implementation is imported when a test first uses it, so a session without pairs costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .pairs.pair import Pair
    from .report.result import Result

RESULTS = pytest.StashKey["list[Result]"]()
PENDING = pytest.StashKey["list[Result]"]()
"""Results of the running test phase. They travel with its report, also from a pytest-xdist worker."""

CARRIED = "xcheck_results"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of xcheck."""
    group = parser.getgroup("xcheck", "equivalence of PyTorch and Keras training setups")
    group.addoption("--xcheck-html", metavar="FILE", help="write one HTML report on every pair of the session")
    group.addoption("--xcheck-json", metavar="DIR", help="write DIR/<pair>/result.json for every pair of the session")
    group.addoption(
        "--xcheck-pairs", metavar="DIR", action="append", default=[], help="collect every DIR/**/pair.py as a test"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Create the list of results of the session, and remove the files of an earlier one."""
    config.stash[RESULTS], config.stash[PENDING] = [], []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config.stash[RESULTS]))
        html, folder = config.getoption("--xcheck-html"), config.getoption("--xcheck-json")
        for path in [*([Path(html)] if html else []), *(Path(folder).glob("*/result.json") if folder else [])]:
            path.unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the results of a test phase to its report, as text."""
    report = yield
    pending = item.config.stash[PENDING]
    vars(report)[CARRIED] = [json.dumps(result.to_dict()) for result in pending]
    pending.clear()
    return report


class Collector:
    """Collects the results attached to the reports of a session.

    Args:
        results: filled in.
    """

    def __init__(self, results: list[Result]) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results of one report."""
        from .report.result import Result

        self._results += [Result.from_dict(json.loads(text)) for text in vars(report).get(CARRIED, ())]


@pytest.fixture
def xcheck_run(request: pytest.FixtureRequest) -> Callable[..., Result]:
    """A function (pair, **options of xcheck.check) -> Result that fails the test unless the sides are equivalent."""

    def run(pair: Pair, **options: Any) -> Result:
        __tracebackhide__ = True
        return _run(request.config, pair, **options)

    return run


def _run(config: pytest.Config, pair: Pair, **options: Any) -> Result:
    __tracebackhide__ = True
    from .check import check
    from .errors import BadInput, result_of

    try:
        result = check(pair, **options)
    except BaseException as error:
        found = result_of(error)
        if found is not None:
            config.stash[PENDING].append(found)
        if isinstance(error, BadInput):
            pytest.fail(str(error), pytrace=False)
        raise
    config.stash[PENDING].append(result)
    if result.expectation is not None:
        if not result.expectation["held"]:
            pytest.fail(f"{result.expectation['why']}\n\n{result.report()}", pytrace=False)
    elif result.verdict.value not in ("EQUIVALENT", "NUMERIC"):
        pytest.fail(result.report(), pytrace=False)
    return result


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect pair files below the folders given with --xcheck-pairs."""
    given: list[str] = parent.config.getoption("--xcheck-pairs") or []
    folders = [Path(folder).resolve() for folder in given]
    if file_path.name == "pair.py" and any(file_path.resolve().is_relative_to(folder) for folder in folders):
        return PairFile.from_parent(parent, path=file_path)  # pyright: ignore[reportUnknownMemberType]
    return None


class PairFile(pytest.File):
    """A pair file; each `Pair` in it is a test."""

    def collect(self) -> Iterator[PairItem]:
        """Import the file and list its pairs."""
        from .errors import BadInput
        from .pairs.loading import pairs_in

        try:
            pairs = pairs_in(self.path)
        except BadInput as error:
            raise self.CollectError(str(error)) from error
        for name, pair in pairs.items():
            yield PairItem.from_parent(self, name=name, pair=pair)  # pyright: ignore[reportUnknownMemberType]


class PairItem(pytest.Item):
    """One pair of a pair file."""

    def __init__(self, *, pair: Pair, **options: Any) -> None:
        super().__init__(**options)
        self.pair = pair

    def runtest(self) -> None:
        """Check the pair."""
        _run(self.config, self.pair)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the pair is."""
        return self.path, 0, f"pair {self.pair.name} ({self.name})"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the pairs that passed except for accepted differences."""
    results = config.stash.get(RESULTS, [])
    if any(a.seen for result in results for a in result.accepted):
        from .report.views import headline

        terminalreporter.section("xcheck: accepted differences")
        for result in results:
            if any(a.seen for a in result.accepted):
                terminalreporter.write_line(f"{result.verdict.value} {headline(result)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the requested files; a pytest-xdist worker leaves that to the main session."""
    if hasattr(session.config, "workerinput"):
        return
    results = session.config.stash.get(RESULTS, [])
    html, folder = session.config.getoption("--xcheck-html"), session.config.getoption("--xcheck-json")
    if folder:
        runs: dict[str, int] = {}
        for result in results:  # a pair that ran twice gets a folder per run
            runs[result.pair] = runs.get(result.pair, 0) + 1
            name = result.pair if runs[result.pair] == 1 else f"{result.pair}-{runs[result.pair]}"
            result.to_json(Path(folder) / name / "result.json")
    if html and results:
        from .report.html import write_html

        write_html(results, Path(html))
