"""An operation in the loss of one side alone that changes a shape, such as a slice that leaves a class out.

Its value has no counterpart that it could be put in the place of. It is left out instead: what goes in stands in the
place of what comes out, and where the losses agree then on several inputs, it is the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....errors import UserCodeError
from ....frameworks.protocol import Runner
from ....numerics.align import Alignment
from ....numerics.align.graph import Graph, Key
from ....records.calls import LOSS, Call
from ....records.result import Cause
from ....records.sides import SIDES, SideName, other_side
from ....records.trace import Arrays, State
from ...prove import Trial, prove
from ...recomputed import REPRODUCED
from ..replay import Name, Scene, named

MOST = 8
"""Operations that are left out before the search gives up."""


@dataclass(frozen=True, slots=True)
class OneSided:
    """Calls of one function with the same settings that the other side does not have.

    Attributes:
        side: that has them.
        calls: in order.
    """

    side: SideName
    calls: Sequence[Call]

    @property
    def setting(self) -> str:
        """What the function was given besides tensors: "[..., 1:]" of an index."""
        settings = self.calls[0].settings
        if self.calls[0].kind == "getitem":
            index = next(iter(settings.values()), "")
            return f"[{', '.join(map(str, index)) if isinstance(index, tuple) else index}]"  # pyright: ignore
        return ", ".join(f"{value}" if name.isdigit() else f"{name}={value}" for name, value in settings.items())


def one_sided(scene: Scene, alignment: Alignment) -> list[OneSided]:
    """The functions of one side alone that make something new of what both sides have.

    Args:
        scene: both sides' losses.
        alignment: of them.
    """
    halves: tuple[tuple[SideName, Graph, Mapping[Key, frozenset[Key]]], ...] = (
        (scene.plan.reference, alignment.reference, alignment.there),
        (scene.plan.follower, alignment.follower, alignment.back),
    )
    return [group for half in halves for group in _groups(*half)][:MOST]


def _groups(side: SideName, graph: Graph, shared: Mapping[Key, frozenset[Key]]) -> Iterator[OneSided]:
    found: dict[tuple[str, str], list[Call]] = {}
    for call in graph.calls:
        keys, made = list(graph.inputs[call.index].values()), list(graph.outputs[call.index].values())
        if not call.function or len(keys) != 1 or len(made) != 1 or keys[0] not in shared or made[0] in shared:
            continue
        found.setdefault((call.kind, repr(sorted(call.settings.items(), key=str))), []).append(call)
    for calls in found.values():
        yield OneSided(side, calls)


def losses_without(scene: Scene, groups: Sequence[OneSided]) -> list[Mapping[SideName, float]]:
    """Both losses as they are, and then with each of some groups left out; NaN where a loss refuses that.

    Args:
        scene: both sides at some start.
        groups: of either side.
    """
    plain: dict[SideName, float] = {side: _loss(scene, side, frozenset()) for side in SIDES}
    made: list[Mapping[SideName, float]] = [plain]
    for group in groups:
        made.append({**plain, group.side: _loss(scene, group.side, frozenset(map(named, group.calls)))})
    return made


def _loss(scene: Scene, side: SideName, out: frozenset[Name]) -> float:
    runner: Runner = scene.reference if side == scene.plan.reference else scene.follower
    start = scene.step.reference.record.before
    start = State(start.parameters, start.buffers)

    def swap(call: Call) -> Arrays | None:
        given = next(iter(call.inputs.values()), None)
        return dict.fromkeys(call.outputs, given) if named(call) in out and given is not None else None

    kept = runner.snapshot()
    try:
        runner.write(start if side == scene.plan.reference else scene.plan.for_follower(start, slots=False))
        calls = runner.calls(
            scene.step.reference.batch, training=True, gradients=True, inside=scene.inside, swap=swap if out else None
        )
    except UserCodeError:  # a loss need not work without one of its operations
        return float("nan")
    finally:
        runner.restore(kept)
    whole = next((call for call in calls if call.path == LOSS and call.parent is None), None)
    return float("nan") if whole is None else float(np.sum(whole.outputs["output"]))


def one_sided_causes(
    name: str, groups: Sequence[OneSided], inputs: Sequence[Sequence[Mapping[SideName, float]]]
) -> list[Cause]:
    """The one group without which the losses agree on every input; none where there is no such.

    Args:
        name: of the loss.
        groups: that were left out.
        inputs: what `losses_without` gave at each start.
    """
    for i, group in enumerate(groups, 1):
        trials: list[Trial] = []
        for losses in inputs:
            whole, left = losses[0], losses[i]
            scale = max(abs(value) for value in whole.values()) or 1.0
            trials.append(Trial(_apart(whole) / scale, _apart(left) / scale, REPRODUCED))
        made = prove(_cause(name, group), trials)
        if made.confirmed:
            return [made]
    return []


def _apart(losses: Mapping[SideName, float]) -> float:
    return abs(losses["torch"] - losses["keras"])


def _cause(name: str, group: OneSided) -> Cause:
    first, other = group.calls[0], other_side(group.side)
    shapes = next(iter(first.inputs.values())).shape, next(iter(first.outputs.values())).shape
    what = f"{first.kind} {group.setting}".strip()
    times = f", in {len(group.calls)} places" if len(group.calls) > 1 else ""
    places = {group.side: first.name, other: name}
    return Cause(
        id="slice" if first.kind == "getitem" else "one_sided_operation",
        phase="loss",
        torch=places["torch"],
        keras=places["keras"],
        summary=f"the loss of the {group.side} side applies {what} to {shapes[0]}, which leaves {shapes[1]}{times}; "
        f"that of the {other} side does not",
        evidence={"side": group.side, "calls": [call.name for call in group.calls], "setting": group.setting}
        | ({f"{group.side}_line": first.line} if first.line else {}),
        fix=f"{other}: put {what} in the same place, or {group.side}: leave it out",
    )
