"""Causes of a first difference in what a model computes: every family is asked, the most telling first."""

from __future__ import annotations

from collections.abc import Callable

from ...records.result import Cause
from .activation import ACTIVATION
from .attention import ATTENTION
from .axes import axes_causes, slice_causes
from .cells import CELL
from .clamp import clamp_causes
from .convolution import CONVOLUTION, TRANSPOSED
from .dense import DENSE
from .embedding import EMBEDDING
from .filled import filled_causes
from .forms import Form, search
from .functions import function_causes, order_causes
from .linear import linear_causes
from .normalisation import NORM
from .one_computation import Local
from .operands import one_operand_causes, operand_causes
from .padding import PADDING
from .pooling import POOLING
from .recurrent import RECURRENT
from .recurrent_stack import stacked_causes
from .resize import RESIZE
from .units import unit_causes
from .weight_functions import weight_function_causes

FORMS: tuple[Form, ...] = (
    NORM,
    CONVOLUTION,
    TRANSPOSED,
    PADDING,
    POOLING,
    RESIZE,
    CELL,
    RECURRENT,
    ATTENTION,
    DENSE,
    EMBEDDING,
)
"""Of single layers; the first that explains both sides does."""

FREE: tuple[Callable[[Local], list[Cause]], ...] = (
    lambda local: search(ACTIVATION, local),
    clamp_causes,
    filled_causes,
    linear_causes,
    operand_causes,
    weight_function_causes,
    one_operand_causes,
    function_causes,
    order_causes,
)
"""What is solved from the values alone, so that any two of one input have such a cause, also two that have nothing to
do with each other."""

ASKED: tuple[Callable[[Local], list[Cause]], ...] = (
    *FREE,
    *((lambda local, form=form: search(form, local)) for form in FORMS),
    stacked_causes,
    unit_causes,
    axes_causes,
    slice_causes,
)
"""In this order; the first that explains both sides does."""


def forward_causes(local: Local) -> list[Cause]:
    """Why a computation comes out differently on the same numbers; none where nothing explains it.

    Args:
        local: what both sides did.
    """
    if local.allowed >= local.error:
        return []
    for ask in ASKED[0 if local.proven else len(FREE) :]:
        causes = ask(local)
        if causes:
            return causes
    return []


def value_causes(local: Local) -> list[Cause]:
    """Why a few calls without a layer, such as those of a loss, come out differently on the same numbers.

    Args:
        local: what both sides did, on several inputs.
    """
    if local.allowed >= local.error:
        return []
    for ask in (*FREE, unit_causes, axes_causes, slice_causes):
        causes = ask(local)
        if causes:
            return causes
    return []
