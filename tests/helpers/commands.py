"""The command line, run inside this process."""

from __future__ import annotations

import pytest

from xcheck.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)
