"""Records of both sides -> checks, one function per phase. NumPy alone; no framework is asked anything."""

from __future__ import annotations

from .export import export_checks as export_checks
from .initialization import initialization_checks as initialization_checks
from .modes import mode_checks as mode_checks
from .setup import inventory_checks as inventory_checks
from .setup import sync_checks as sync_checks
from .step import STEP_PHASES as STEP_PHASES
from .step import silent_gradients as silent_gradients
from .step import trajectory_checks as trajectory_checks
from .step import zero_gradients as zero_gradients
