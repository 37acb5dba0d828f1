"""The sync phase: does the reference's state arrive in the other side, and do its ties stay?"""

from __future__ import annotations

from .checks.setup import sync_checks
from .phase import Live
from .ties.checks import synced_ties


def compare_synced(live: Live) -> None:
    """Write the reference's initial state into the follower and read it back."""
    plan, follower = live.plan, live.follower
    wanted, before = plan.for_follower(live.reference.initial, slots=False), follower.read()
    follower.write(wanted)
    after = follower.read()
    live.findings.checks += sync_checks(plan, "float64", wanted, after) + synced_ties(plan, before, after)
