"""The user's result object: the data of a run, with methods that render it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..errors import InequivalenceError
from ..records.result import ResultData, Verdict


@dataclass(frozen=True, slots=True)
class Result(ResultData):
    """All findings of a run; fields as in `ResultData`."""

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one HTML file to `path`; returns the path."""
        from .html import write_html

        return write_html([self], Path(path))

    def report(self) -> str:
        """The report as plain text, the verdict on its first line."""
        from .terminal import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """The report for a notebook: the first lines, and the remaining ones on demand."""
        first, _, rest = self.report().partition("\n\n")
        return f"<pre><b>{escape(first)}</b></pre><details><summary>report</summary><pre>{escape(rest)}</pre></details>"

    def assert_equivalent(self, *, strict: bool = False) -> None:
        """Do nothing for EQUIVALENT, and for NUMERIC unless `strict`.

        Raises:
            InequivalenceError: any other verdict; the message is the report.
        """
        accepted = {Verdict.EQUIVALENT} if strict else {Verdict.EQUIVALENT, Verdict.NUMERIC}
        if self.verdict not in accepted:
            raise InequivalenceError(self.report())
