"""Why the first difference is there: where it is made, hypotheses about it, and their proof."""

from __future__ import annotations

from ..phases.phase import Explanations
from .explain import explain_float32, explain_step
from .export import explained
from .forward.dropped_tensors import explain_dropout
from .persistence.resumed_step import resumed_faults
from .persistence.route import persistence_causes
from .setup.explain import explain_setup
from .update.own_gradients import explain_own_updates

EXPLANATIONS = Explanations(
    setup=explain_setup,
    step=explain_step,
    dropout=explain_dropout,
    own_updates=explain_own_updates,
    float32=explain_float32,
    resumed=resumed_faults,
    routes=persistence_causes,
    files=explained,
)
"""What the phases ask for causes."""
