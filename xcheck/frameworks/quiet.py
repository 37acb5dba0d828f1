"""What exporters and C++ libraries print, kept off the screen."""

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
    """Drop what is printed, also by C++ code, what is logged and what is warned about, until the block ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, logged = [os.dup(descriptor) for descriptor in (1, 2)], logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryFile() as aside, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for descriptor in (1, 2):
            os.dup2(aside.fileno(), descriptor)
        try:
            yield
        finally:
            logging.disable(logged)
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, before in zip((1, 2), kept, strict=True):
                os.dup2(before, descriptor)
                os.close(before)
