"""Causes of a first difference in what a model computes: every family is asked, the most telling first."""

from __future__ import annotations

from collections.abc import Callable

from ..result import Cause
from .activation import ACTIVATION
from .forms import Form, search
from .linear import linear_causes
from .local import Local
from .normalisation import NORM

FORMS: tuple[Form, ...] = (NORM, ACTIVATION)
"""Asked in this order; the first that explains both sides does."""

ASKED: tuple[Callable[[Local], list[Cause]], ...] = (
    linear_causes,
    *((lambda local, form=form: search(form, local)) for form in FORMS),
)


def forward_causes(local: Local) -> list[Cause]:
    """Why a computation comes out differently on the same numbers; none where nothing explains it.

    Args:
        local: what both sides did.
    """
    for ask in ASKED:
        causes = ask(local)
        if causes:
            return causes
    return []
