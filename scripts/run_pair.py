#!/usr/bin/env python3
"""`scripts/run_pair.py NAME ...` is `xcheck run NAME ...`; `--all ...` is `xcheck sweep --all ...`; `--list` is
`xcheck list`.

Runs in the project's environment, whichever Python starts it; without one it says how to make it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / ".venv" / "bin" / "python"

try:
    from xcheck.cli import main
except ModuleNotFoundError as error:
    if OWN.exists() and Path(sys.prefix) != OWN.parent.parent:
        os.execv(OWN, [str(OWN), *sys.argv])
    print(f"xcheck is not set up here ({error}).\n  next:    scripts/install, then the same again", file=sys.stderr)
    sys.exit(2)

os.environ.setdefault("XCHECK_MODELS", str(ROOT / "models"))
arguments = sys.argv[1:]
main(["list"] if arguments == ["--list"] else ["sweep" if "--all" in arguments else "run", *arguments])
