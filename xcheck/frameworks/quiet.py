"""Suppression of output from exporters and C++ libraries."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet() -> Generator[None]:
    """Drop printed output, also from C++ code, log messages and warnings, until the block ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    copies, log_level = [os.dup(descriptor) for descriptor in (1, 2)], logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryFile() as buffer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for descriptor in (1, 2):
            os.dup2(buffer.fileno(), descriptor)
        try:
            yield
        finally:
            logging.disable(log_level)
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip((1, 2), copies, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
