"""xcheck says whether a Keras port of a PyTorch training setup is the same computation.

Importing it loads neither framework; a check imports what its pair needs.
"""

from __future__ import annotations

import importlib
from typing import Any

from .check import check as check
from .check import compare as compare
from .cli.convert.conversion import convert as convert
from .cli.golden import record as record
from .cli.golden import verify as verify
from .errors import BadInput as BadInput
from .errors import InequivalenceError as InequivalenceError
from .errors import XcheckError as XcheckError
from .matching.map_file import read_map as read_map
from .pairs.live_models import batches_from as batches_from
from .pairs.pair import Batch as Batch
from .pairs.pair import Expectation as Expectation
from .pairs.pair import KerasSide as KerasSide
from .pairs.pair import Pair as Pair
from .pairs.pair import TorchSide as TorchSide
from .pairs.pair import copies as copies
from .pairs.pair import waive as waive
from .records.result import Cause as Cause
from .records.result import Check as Check
from .records.result import Tie as Tie
from .records.result import Verdict as Verdict
from .records.trace import Trace as Trace
from .records.version import __version__ as __version__
from .report.result import Result as Result


def __getattr__(name: str) -> Any:
    if name == "optim":  # imported on first use: it depends on nothing else
        return importlib.import_module(".optim", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
