"""Which parameter is which: what the pair's map says, and for the rest what the running sides show."""

from __future__ import annotations

from ..errors import PairError, UserCodeError
from ..frameworks.protocol import Runner
from ..frameworks.sides import Device, Progress, Sides, choose_backend, choose_device, silent
from ..matching import MatchPlan, plan_by_value, plan_from_map
from ..matching.moved_buffers import buffers_by_value, open_buffers
from ..pairs.batches import batches_of
from ..pairs.pair import Batch, Pair
from ..records.inventory import Inventory
from ..records.sides import other_side
from .findings import Findings


def match(
    pair: Pair,
    *,
    seed: int = 0,
    device: Device = "auto",
    keras_backend: str | None = None,
    progress: Progress = silent,
) -> MatchPlan:
    """Match the parameters of a pair, and nothing else.

    Args:
        pair, seed, device, keras_backend, progress: as for `check`.

    Raises:
        BadInput: something the user gave cannot be used.
    """
    findings = Findings(pair, seed, 1, (), complete=False)
    choose_backend(pair, keras_backend)
    sides = Sides(findings, choose_device(pair, device), progress)
    with sides.open(pair.reference) as reference, sides.open(other_side(pair.reference)) as follower:
        progress("matching")
        return plan_of(pair, seed, reference.inventory(), follower, reference)


def plan_of(pair: Pair, seed: int, inventory: Inventory, follower: Runner, reference: Runner | None) -> MatchPlan:
    """The plan of a pair.

    Args:
        pair: with its map, if it has one.
        seed: of the batch and the weights that what the map leaves out is matched with.
        inventory: of the reference.
        follower: the other side.
        reference: None where it is a recording, which cannot be run with other weights.

    Raises:
        MatchError: the map is wrong.
        PairError: there is no map, and no live reference either.
    """
    by_side = {pair.reference: inventory, follower.side: follower.inventory()}
    torch, keras = by_side["torch"], by_side["keras"]
    if reference is None and pair.weight_map is None:
        raise PairError(
            "This pair has no weight_map, and a recorded side cannot be matched by its values.",
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
    return _with_buffers(plan_by_value(reference, follower, batch, pair.weight_map, seed), reference, follower, batch)


def _with_buffers(plan: MatchPlan, reference: Runner, follower: Runner, batch: Batch) -> MatchPlan:
    """The plan, with the buffers that only a training step tells; both sides stay as they are."""
    if plan.needed or not open_buffers(plan):
        return plan
    kept = reference.snapshot(), follower.snapshot()
    try:
        follower.write(plan.for_follower(reference.read(), slots=False))
        return buffers_by_value(plan, reference.step(1, batch), follower.step(1, batch))
    except UserCodeError:  # the run says it, when it comes to the step
        return plan
    finally:
        reference.restore(kept[0])
        follower.restore(kept[1])
