"""Exporters are kept quiet, and what they changed to be loud is put back."""

import logging
import os
import subprocess
import sys
import warnings

import pytest

from xcheck.frameworks.quiet import quiet


def test_nothing_gets_out_and_all_comes_back():
    code = """
import logging, os, sys, warnings
from xcheck.frameworks.quiet import quiet
logging.basicConfig()
with quiet():
    print("python"); os.write(1, b"c"); os.write(2, b"c"); print("python", file=sys.stderr)
    logging.warning("logged"); warnings.warn("warned")
print("after"); logging.warning("after")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("after\n", "WARNING:root:after\n")


def test_everything_is_put_back_after_an_error():
    before = (logging.root.manager.disable, len(warnings.filters), sorted(os.listdir("/dev/fd")))

    def loud():
        with quiet():
            raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        loud()
    assert (logging.root.manager.disable, len(warnings.filters), sorted(os.listdir("/dev/fd"))) == before
