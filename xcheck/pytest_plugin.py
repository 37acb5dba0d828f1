"""The pytest plugin: options, the fixture `xcheck_run`, and pair files as tests.

Its implementation is imported when a test asks for it, so that a session without pairs pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .pairs.pair import Pair
    from .report.result import Result

RESULTS = pytest.StashKey["list[Result]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of xcheck."""
    group = parser.getgroup("xcheck", "equivalence of PyTorch and Keras training setups")
    group.addoption("--xcheck-html", metavar="FILE", help="write one HTML report on every pair of the session")
    group.addoption("--xcheck-json", metavar="DIR", help="write DIR/<pair>/result.json for every pair of the session")
    group.addoption(
        "--xcheck-pairs", metavar="DIR", action="append", default=[], help="collect every DIR/**/pair.py as a test"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the results of the session."""
    config.stash[RESULTS] = []


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
    from .errors import BadInput

    try:
        result = check(pair, **options)
    except BadInput as error:
        if error.result is not None:
            config.stash[RESULTS].append(error.result)
        pytest.fail(str(error), pytrace=False)
    config.stash[RESULTS].append(result)
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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was asked for."""
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
