# ruff: noqa: E501
"""Faults of layers: of their settings, of what is around them, of axes and orders, of what a norm remembers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from parts import Part, Setup
from planting import Change, Fault, behind, fed, other_kind, setting, without


def _is(key: str, *values: object) -> object:
    return lambda part: part.settings.get(key) in values


def _times(key: str, *factors: float) -> object:
    return lambda part, rng: part.settings[key] * rng.choice(factors)


def _fault(id: str, family: str, causes: str, plant: object, **options: object) -> Fault:
    return Fault(id, family, options.pop("phase", "forward"), tuple(causes.split()), plant, **options)  # type: ignore


def _fn(*names: str) -> object:
    return lambda part: part.settings["fn"] in names


def _swapped(host: Setup, rng: Random) -> Iterator[Change]:
    """The two inputs of a concatenation in the other order, where they are of one width."""
    for part in host.of_kind("concat", "subtract"):
        yield host, host.with_part(replace(part, inputs=part.inputs[::-1])), part.name


def _norm_and_activation(host: Setup, rng: Random) -> Iterator[Change]:
    """The activation before the norm."""
    for part in host.of_kind("activation"):
        norm = next((p for p in host.parts if p.name == part.inputs[0] and "norm" in p.kind), None)
        if norm is not None:
            readers = host.without(norm.name).behind(part.name, Part(norm.name, norm.kind, (part.name,), norm.settings))
            yield host, readers, f"{norm.name} {part.name}"


def _post_norm(host: Setup, rng: Random) -> Iterator[Change]:
    """The residual sum takes what comes out of the norm for what goes in."""
    for norm in host.of_kind("layer_norm"):
        for part in host.of_kind("add"):
            if norm.inputs[0] in part.inputs and norm.inputs[0] != "x":
                inputs = tuple(norm.name if name == norm.inputs[0] else name for name in part.inputs)
                yield host, host.with_part(replace(part, inputs=inputs)), part.name


def _other_layer(host: Setup, rng: Random) -> Iterator[Change]:
    """A layer that should be used again is not: the first use alone stays."""
    for part in host.of_kind("again"):
        yield host, host.without(part.name), part.settings["layer"]


def _used_twice(host: Setup, rng: Random) -> Iterator[Change]:
    """A square layer that is used once too often."""
    for part in host.of_kind("dense"):
        if part.settings["i"] == part.settings["o"] and part is not host.parts[-1]:
            more = Part(f"{part.name}_more", "again", (part.name,), {"layer": part.name})
            yield host, host.behind(part.name, more), part.name


def _wrong_way(host: Setup, rng: Random) -> Iterator[Change]:
    for part in host.of_kind("flat"):
        yield host, host.with_part(part.but(channels_last=True)), f"{part.name} head"


def _frozen(kind: str) -> object:
    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        for part in host.of_kind(kind):
            if part.settings.get("image", True):
                both = host.with_part(part.but(frozen=True))
                yield host.with_part(part.but(still=True, frozen=True)), both, part.name

    return plant


SETTINGS = [
    _fault("norm_epsilon", "layer settings", "epsilon", setting("batch_norm layer_norm group_norm rms_norm", eps=_times("eps", 100, 1000, 0.001))),
    _fault("groups", "layer settings", "groups", setting("group_norm", groups=lambda p, rng: p.settings["n"])),
    _fault("slope", "layer settings", "activation", setting("activation", _fn("leaky"), a=_times("a", 0.5, 2.0))),
    _fault("alpha", "layer settings", "activation", setting("activation", _fn("elu"), a=_times("a", 0.5, 2.0))),
    _fault("cap", "layer settings", "activation clamped_value", setting("activation", _fn("relu6"), a=lambda p, rng: rng.choice((0.5, 1.0)))),
    _fault("gelu", "layer settings", "activation", setting("activation", _fn("gelu"), fn="gelu-tanh")),
    _fault("relu_for", "layer settings", "activation", setting("activation", _fn("leaky", "elu", "silu", "gelu"), fn="relu")),
    _fault("other_activation", "layer settings", "activation", setting("activation", _fn("relu", "tanh", "silu", "softplus", "sigmoid"), fn=lambda p, rng: rng.choice([f for f in ("tanh", "silu", "softplus", "sigmoid") if f != p.settings["fn"]]))),
    _fault("hard_sigmoid", "layer settings", "activation", setting("activation", _fn("sigmoid"), fn=lambda p, rng: rng.choice(("hard-sigmoid", "old-hard-sigmoid")))),
    _fault("same_padding", "layer settings", "padding", setting("conv", lambda p: p.settings.get("stride") == 2, same=True), sides=("keras",)),
    _fault("dilation", "layer settings", "dilation padding", setting("conv", lambda p: p.settings.get("dilation", 1) == 2, dilation=1, pad=1)),
    _fault("padding_mode", "layer settings", "padding_mode", setting("conv", lambda p: p.settings.get("stride", 1) == 1 and p.settings.get("dilation", 1) == 1, mode="reflect")),
    _fault("shorter_resize", "layer settings", "interpolation", setting("upsample", mode="nearest")),
    _fault("corners", "layer settings", "resize_coordinates", setting("upsample", corners=True), sides=("torch",)),
    _fault("pool_kind", "layer settings", "reduction", other_kind("max_pool", "avg_pool")),
    _fault("pool_kind_back", "layer settings", "reduction", other_kind("avg_pool", "max_pool")),
    _fault("attention_scale", "layer settings", "attention_scale constant_factor", setting("attention", scale=lambda p, rng: rng.choice((1.0, p.settings["width"] ** -0.5)))),
    _fault("not_causal", "layer settings", "causal_mask attention_mask", setting("attention", causal=False)),
    _fault("mask_turned", "layer settings", "mask_polarity", setting("attention", turned=True)),
    _fault("mask_fill", "layer settings", "mask_fill", setting("attention", fill=lambda p, rng: rng.choice((0.0, -1.0, -5.0)))),
    _fault("attention_axis", "layer settings", "axis", setting("attention", causal=True, axis=-2)),
    _fault("heads_order", "layer settings", "permuted_axes", setting("attention", heads_last=True)),
    _fault("batch_first", "layer settings", "exchanged_axes", setting("recurrent", batch_first=False)),
    _fault("hard_gates", "layer settings", "recurrent_activation", setting("recurrent", lambda p: True, gates="hard-sigmoid"), sides=("keras",)),
    _fault("unit_epsilon", "layer settings", "epsilon constant_offset", setting("unit", eps=_times("eps", 1e3, 1e5))),
    _fault("deviation", "layer settings", "biased_variance", setting("deviation", less=1), sides=("torch",)),
]  # fmt: skip

VALUES = [
    _fault("factor", "values", "constant_factor", setting("scale", by=_times("by", 0.5, 2.0, 1.1))),
    _fault("no_factor", "values", "constant_factor", without("scale")),
    _fault("factor_behind", "values", "constant_factor", behind("activation add dense embedding attention recurrent", "scale", by=lambda p, rng: rng.choice((0.5, 2.0, 0.1)))),
    _fault("branch_factor", "values", "constant_factor", setting("add", by=lambda p, rng: rng.choice((0.5, 0.1, 2.0)))),
    _fault("offset", "values", "constant_offset", behind("activation", "shift", by=lambda p, rng: rng.choice((0.5, -1.0, 1.0)))),
    _fault("clamped", "values", "clamped_value", behind("add dense attention", "clamp", low=-0.4, high=0.4)),
    _fault("not_clamped", "values", "clamped_value", without("clamp")),
    _fault("other_bounds", "values", "clamped_value", setting("clamp", high=lambda p, rng: rng.choice((0.1, 0.2)))),
    _fault("angles_late", "values", "shifted_positions other_table other_constant", setting("angles", start=1)),
    _fault("angles_scaled", "values", "constant_factor other_table other_constant", setting("angles", by=0.5)),
    _fault("positions_late", "values", "shifted_positions other_table slice", setting("positions", start=2)),
    _fault("sum_for_mean", "values", "constant_factor other_function reduction", setting("pooled", how="sum")),
    _fault("max_for_mean", "values", "other_function reduction", setting("pooled", how="max")),
    _fault("activation_more", "values", "activation number_of_calls one_sided_operation", behind("dense add", "activation", fn="tanh")),
    _fault("activation_less", "values", "activation number_of_calls missing_term", without("activation")),
    _fault("softmax_less", "values", "activation number_of_calls one_sided_operation", without("softmax")),
]  # fmt: skip

STRUCTURE = [
    _fault("residual_missing", "structure", "missing_term number_of_calls", without("add")),
    _fault("product_for_sum", "structure", "other_function", other_kind("add", "multiply")),
    _fault("difference_for_sum", "structure", "other_function constant_factor", other_kind("add", "subtract")),
    _fault("other_residual", "structure", "other_operand", fed("add", 1, ("hidden", "gn", "places", "ln2", "scaled"))),
    _fault("post_norm", "structure", "other_operand", _post_norm),
    _fault("norm_and_activation", "structure", "call_order number_of_calls other_operand", _norm_and_activation),
    _fault("used_once", "structure", "number_of_calls", _other_layer),
    _fault("used_twice", "structure", "number_of_calls", _used_twice),
]  # fmt: skip

ORDERS = [
    _fault("flat_order", "axes and orders", "permuted_axes", _wrong_way),
    _fault("concat_order", "axes and orders", "other_operand axis permuted_axes", _swapped),
    _fault("softmax_axis", "axes and orders", "axis", setting("softmax", axis=0)),
    _fault("shuffle_groups", "axes and orders", "permuted_axes", setting("shuffle", lambda p: True, turned=True)),
    _fault("no_shuffle", "axes and orders", "permuted_axes", without("shuffle")),
    _fault("shuffle_more", "axes and orders", "permuted_axes", behind("conv depthwise group_norm", "shuffle", lambda p: p.settings.get("o", p.settings.get("n", 4)) % 2 == 0, groups=2)),
    _fault("first_for_last", "axes and orders", "last_step slice shifted_positions", setting("last", at=0)),
    _fault("one_before_last", "axes and orders", "last_step slice shifted_positions", setting("last", at=-2)),
    _fault("rolled", "axes and orders", "shifted_positions permuted_axes", behind("embedding attention positions", "roll", by=lambda p, rng: rng.choice((1, -1)))),
    _fault("reversed", "axes and orders", "permuted_axes direction", behind("embedding recurrent attention", "reverse")),
]  # fmt: skip

TRAINING = [
    _fault("norm_momentum", "states", "momentum", setting("batch_norm", momentum=_times("momentum", 0.1, 0.5, 2.0)), phase="state"),
    _fault("momentum_convention", "states", "momentum_convention momentum", setting("batch_norm", momentum=lambda p, rng: 1 - p.settings["momentum"]), phase="state"),
    _fault("unbiased", "states", "biased_variance", setting("batch_norm", biased=False), sides=("torch",), phase="state"),
    _fault("frozen_norm", "states", "frozen_mode", _frozen("batch_norm"), sides=("torch",)),
    _fault("dropout_rate", "dropout", "dropout_rate", setting("dropout", rate=lambda p, rng: rng.choice((0.3, 0.5)))),
    _fault("dropout_missing", "dropout", "dropout_missing dropout_rate", without("dropout")),
    _fault("dropout_more", "dropout", "dropout_missing dropout_rate", behind("activation add embedding", "dropout", rate=0.4)),
    _fault("dropout_always", "dropout", "dropout_at_inference", other_kind("dropout", "dropped"), sides=("torch",)),
    _fault("detached", "gradients", "stopped_gradient", behind("activation dense conv embedding layer_norm", "detach"), phase="gradient"),
    _fault("detached_branch", "gradients", "stopped_gradient detached_use", behind("attention layer_norm group_norm recurrent", "detach"), phase="gradient"),
    _fault("gradient_scaled", "gradients", "scaled_gradient", behind("activation dense conv add embedding", "backward_scale", by=lambda p, rng: rng.choice((0.5, 2.0, -1.0))), phase="gradient"),
    _fault("padding_row", "gradients", "padding_row", setting("embedding", padding=0), sides=("torch",), phase="gradient"),
]  # fmt: skip

LAYER_FAULTS = [fault for faults in (SETTINGS, VALUES, STRUCTURE, ORDERS, TRAINING) for fault in faults]
