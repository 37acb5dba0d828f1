#!/usr/bin/env python3
"""`scripts/run_pair.py NAME ...` is `xcheck run NAME ...`; `--list` is `xcheck list`."""

from __future__ import annotations

import sys

from xcheck.cli import main

arguments = sys.argv[1:]
main(["list"] if arguments == ["--list"] else ["run", *arguments])
