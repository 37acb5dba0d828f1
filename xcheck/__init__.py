"""xcheck says whether a Keras port of a PyTorch training setup is the same computation.

Importing it loads neither framework; a check imports what its pair needs.
"""

from __future__ import annotations

from .check import check as check
from .errors import BadInput as BadInput
from .errors import InequivalenceError as InequivalenceError
from .errors import XcheckError as XcheckError
from .golden import record as record
from .golden import verify as verify
from .matching.map_file import read_map as read_map
from .pair import Batch as Batch
from .pair import Expectation as Expectation
from .pair import KerasSide as KerasSide
from .pair import Pair as Pair
from .pair import TorchSide as TorchSide
from .pair import copies as copies
from .pair import waive as waive
from .records.trace import Trace as Trace
from .result import Cause as Cause
from .result import Check as Check
from .result import Result as Result
from .result import Tie as Tie
from .result import Verdict as Verdict

__version__ = "0.1.0"
