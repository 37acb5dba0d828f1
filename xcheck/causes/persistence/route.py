"""Causes of a side that is another one after it was saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...records.isolated_hypotheses import isolated
from ...records.reload import Fault
from ...records.result import Cause
from ...records.sides import SideName
from ..prove import read_off


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a fault means and how it is mended, in either framework.

    Attributes:
        summary: with {names}.
        torch, keras: the fix.
    """

    summary: str
    torch: str
    keras: str


EXPLANATIONS: Mapping[str, Explanation] = {
    "tie_lost_on_save": Explanation(
        "the tie of {names} does not survive saving and loading: one weight becomes several",
        "make the tie in __init__, by giving both modules the same Parameter, and let load_state_dict copy into it",
        "call one layer several times, or put the layer that owns the weight into the config of the other with "
        "keras.saving.serialize_keras_object, so that both get the same object back; a variable put into another "
        "layer by hand is not saved as such",
    ),
    "tie_lost_by_assign": Explanation(
        "loading replaces the tied parameter {names} by one parameter per path, over one memory: an optimizer then "
        "steps it once per path",
        "load with assign=False, or tie again after loading: b.weight = a.weight",
        "",
    ),
    "tie_made_on_save": Explanation(
        "{names} are separate before saving and one storage after loading",
        "give each module its own Parameter",
        "give each layer its own name, and its own sub-layers in get_config",
    ),
    "buffer_not_persistent": Explanation(
        "training changes the buffer {names}, but it is registered with persistent=False: it is not saved",
        "register_buffer(name, tensor), without persistent=False",
        "",
    ),
    "value_not_saved": Explanation(
        "{names} has a different value after loading than when it was saved",
        "include it in state_dict and load_state_dict of the model",
        "include it in save_own_variables and load_own_variables of the layer",
    ),
    "optimizer_state_not_saved": Explanation(
        "the optimizer loses its state when it is saved and loaded",
        "save and load the optimizer's state_dict, and create the optimizer before loading it",
        "compile the model as it was when it was saved, with an optimizer that keeps its variables",
    ),
    "optimizer_left_behind": Explanation(
        "loading replaces the parameters of the model, but the optimizer still updates the old ones: training no "
        "longer changes the model",
        "load with assign=False, or create the optimizer after loading",
        "create the optimizer after loading",
    ),
    "decay_exclusion_not_saved": Explanation(
        "the exclusion from weight decay is not saved: {names} decays at a different rate after loading",
        "create the parameter groups together with the optimizer, before its state is loaded",
        "call exclude_from_weight_decay in the __init__ of a subclass of the optimizer: no config holds what was "
        "excluded",
    ),
    "penalty_per_copy": Explanation(
        "the penalty of {names} is counted once for each copy that loading makes of it: the weight belongs to "
        "several models, each saved and cloned separately",
        "let one module hold the weight, and call it several times",
        "put the layer into one model and call that model several times",
    ),
    "setting_not_saved": Explanation(
        "a setting of {names} changes when it is loaded: the config leaves it out",
        "set it from the arguments of __init__, so that a new model has it",
        "return it from get_config of the layer, under the name of the argument of __init__",
    ),
    "state_not_saved": Explanation(
        "the computation depends on {names}, which is neither a parameter nor a buffer: it is not saved",
        "register it: self.register_buffer(name, tensor), or nn.Parameter, or nn.ParameterList for a list",
        "create it with self.add_weight(...) in build or __init__, not in an object that Keras does not track",
    ),
}


@isolated(list[Cause])
def persistence_causes(side: SideName, faults: Sequence[Fault]) -> list[Cause]:
    """One cause per thing lost, however many routes lose it.

    Args:
        side: that was saved.
        faults: of all its routes.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.id, fault.names), []).append(fault)
    return [_cause(side, group) for group in groups.values()]


def _cause(side: SideName, group: Sequence[Fault]) -> Cause:
    fault = group[0]
    explanation = EXPLANATIONS[fault.id]
    names = (" = " if fault.id.startswith("tie_") else ", ").join(fault.names)
    cause = Cause(
        id=fault.id,
        phase="persistence",
        torch=names or "optimizer" if side == "torch" else None,
        keras=names or "optimizer" if side == "keras" else None,
        summary=f"{side}: {explanation.summary.format(names=names)}",
        evidence={
            "routes": ", ".join(f.route for f in group),
            "found": fault.detail,
            "same_step_when_set_back": all(f.explained for f in group),
        },
        fix=explanation.torch if side == "torch" else explanation.keras,
    )
    return read_off(cause, shown=all(f.explained for f in group))
