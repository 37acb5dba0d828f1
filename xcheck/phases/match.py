"""The match of parameters: by the pair's map, and for the rest by the values of the running sides."""

from __future__ import annotations

from ..errors import PairError
from ..frameworks.canary import refuse_broken
from ..frameworks.protocol import Runner
from ..frameworks.sides import Device, Progress, Sides, canaries, choose_backend, choose_device, silent
from ..matching import MatchPlan, plan_by_value, plan_from_map
from ..pairs.batches import batches_of
from ..pairs.pair import Pair
from ..records.inventory import Inventory
from ..records.sides import other_side
from .findings import Findings
from .state_across_batches import with_kept_buffers


def match(
    pair: Pair,
    *,
    seed: int = 0,
    device: Device = "auto",
    keras_backend: str | None = None,
    progress: Progress = silent,
) -> MatchPlan:
    """Match the parameters of a pair; nothing is compared.

    Args:
        pair, seed, device, keras_backend, progress: as for `check`.

    Raises:
        BadInput: an input of the user cannot be used.
    """
    findings = Findings(pair, seed, 1, (), complete=False)
    choose_backend(pair, keras_backend)
    refuse_broken(canaries(pair))
    sides = Sides(findings, choose_device(pair, device), progress)
    with sides.open(pair.reference) as reference, sides.open(other_side(pair.reference)) as follower:
        progress("matching")
        return plan_of(pair, seed, reference.inventory(), follower, reference)


def plan_of(pair: Pair, seed: int, inventory: Inventory, follower: Runner, reference: Runner | None) -> MatchPlan:
    """The plan of a pair.

    Args:
        pair: with its map, if it has one.
        seed: of the batch and the weights used to match what the map leaves out.
        inventory: of the reference.
        follower: the other side.
        reference: None for a recording, which cannot be run with other weights.

    Raises:
        MatchError: the map is wrong.
        PairError: there is neither a map nor a live reference.
    """
    by_side = {pair.reference: inventory, follower.side: follower.inventory()}
    torch, keras = by_side["torch"], by_side["keras"]
    if reference is None and pair.weight_map is None:
        raise PairError(
            "This pair has no weight_map, and a recorded side cannot be matched by value.",
            where=f"Pair({pair.name!r})",
            numbers=f"{len(torch.parameters())} torch and {len(keras.parameters())} keras parameters",
            todo="where both frameworks are installed: xcheck match PAIR --write map.json, and then "
            'Pair(weight_map=xcheck.read_map("map.json"))',
        )
    plan = plan_from_map(torch, keras, pair.weight_map or {}, pair.reference)
    complete = not (plan.unmatched_torch or plan.unmatched_keras)
    if reference is None or (complete and pair.weight_map is not None):
        return plan
    batch = next(batches_of(pair, seed, 1))
    return with_kept_buffers(
        plan_by_value(reference, follower, batch, pair.weight_map, seed), reference, follower, batch
    )
