# ruff: noqa: E501
"""Faults of what people write by hand: operations that hosts are given, with one thing otherwise on one side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from parts import Part, Setup
from planting import Change, Fault, Plant

WIDTHS = {"dense": "o", "layer_norm": "n", "embedding": "o", "attention": "width", "conv": "o", "conv_transpose": "o", "batch_norm": "n"}  # fmt: skip
PLACES = {"any": ("dense", "layer_norm"), "steps": ("layer_norm", "attention"), "image": ("batch_norm", "conv"), "end": ("conv_transpose",)}  # fmt: skip


def given(form: str, kind: str, base: dict[str, Any], wrong: dict[str, Any]) -> Plant:
    """An operation that both sides have, otherwise set on one; `form` is what it can stand behind."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        fits = {
            "any": ("vector", "tokens"),
            "steps": ("tokens"),
            "image": ("image",),
            "end": ("image",),
        }[form]
        if host.form not in fits:
            return
        for part in host.of_kind(*PLACES[form]):
            if part is not host.parts[-1]:
                sizes = {"d": part.settings[WIDTHS[part.kind]], "length": host.shape[0]}
                right = Part(kind, kind, (part.name,), {**sizes, **base})
                yield host.behind(part.name, right), host.behind(part.name, right.but(**wrong)), kind

    return plant


def _fault(id: str, causes: str, plant: Plant, family: str = "by hand", **options: Any) -> Fault:
    return Fault(id, family, options.pop("phase", "forward"), tuple(causes.split()), plant, **options)


BY_HAND = [
    _fault("gate_function", "activation", given("any", "gates", {"fn": "silu"}, {"fn": "gelu"})),
    _fault("rotation_pairs", "permuted_axes other_operand shifted_positions slice", given("steps", "rotated", {}, {"halves": False})),
    _fault("rotation_base", "other_table other_constant", given("steps", "rotated", {}, {"base": 1000.0})),
    _fault("rotation_start", "other_table other_constant shifted_positions", given("steps", "rotated", {}, {"start": 1})),
    _fault("waves_order", "other_table other_constant permuted_axes", given("steps", "waves", {}, {"halves": True})),
    _fault("mean_by_all", "other_operand other_constant constant_factor mask_of_one_side reduction", given("steps", "masked_mean", {}, {"by": "all"})),
    _fault("mean_mask_turned", "mask_polarity", given("steps", "masked_mean", {}, {"turned": True})),
    _fault("score_mask_turned", "mask_polarity", given("steps", "masked_scores", {}, {"turned": True})),
    _fault("score_fill", "mask_fill", given("steps", "masked_scores", {}, {"fill": 0.0})),
    _fault("score_axis", "axis", given("steps", "masked_scores", {}, {"axis": 2})),
    _fault("packed_heads", "permuted_axes", given("steps", "heads", {}, {"packed": "heads first"})),
    _fault("packed_last", "permuted_axes", given("steps", "heads", {}, {"packed": "three last"})),
    _fault("causal_missing", "causal_mask attention_mask", given("steps", "heads", {"mask": "causal"}, {"mask": "all"})),
    _fault("causal_turned", "mask_polarity causal_mask attention_mask", given("steps", "heads", {"mask": "causal"}, {"mask": "later"})),
    _fault("causal_strict", "causal_mask attention_mask", given("steps", "heads", {"mask": "causal"}, {"mask": "strict"})),
    _fault("window_wider", "attention_mask", given("steps", "heads", {"mask": "window"}, {"window": 2})),
    _fault("window_both_ways", "attention_mask causal_mask", given("steps", "heads", {"mask": "causal window"}, {"mask": "window"})),
    _fault("no_softmax", "number_of_calls one_sided_operation activation missing_term", given("steps", "heads", {}, {"no_softmax": True})),
    _fault("softmax_of_queries", "axis", given("steps", "heads", {}, {"axis": -2})),
    _fault("softmax_of_heads", "axis", given("steps", "heads", {}, {"axis": 1})),
    _fault("heads_not_units", "number_of_calls one_sided_operation missing_term", given("steps", "heads", {"unit": True}, {"unit": False})),
    _fault("slopes", "other_table other_constant constant_factor", given("steps", "heads", {"slope": 0.5}, {"slope": 0.25})),
    _fault("bias_of_places_turned", "permuted_axes other_constant turned_weight shifted_positions", given("steps", "placed_heads", {}, {"bias_turned": True})),
    _fault("bias_of_places_scale", "attention_scale constant_factor", given("steps", "placed_heads", {}, {"scale": 1.0})),
    _fault("scores_capped", "constant_factor number_of_calls", given("steps", "heads", {"cap": 2.0}, {"cap": 3.0})),
    _fault("ready_not_causal", "causal_mask attention_mask", given("steps", "ready", {}, {"causal": False})),
    _fault("ready_mask_turned", "mask_polarity", given("steps", "ready", {"mask": "keep"}, {"mask": "drop"})),
    _fault("ready_scale", "attention_scale", given("steps", "ready", {}, {"scale": 1.0})),
    _fault("groups_tiled", "permuted_axes other_operand slice", given("steps", "grouped", {}, {"tiled": True})),
    _fault("squeeze_max", "other_function reduction", given("image", "squeezed", {}, {"how": "max"})),
    _fault("squeeze_gate", "activation", given("image", "squeezed", {}, {"gate": "hard"})),
    _fault("squeeze_function", "activation", given("image", "squeezed", {}, {"fn": "silu"})),
    _fault("responses_axis", "axis", given("image", "responses", {}, {"over": "batch"})),
    _fault("responses_epsilon", "epsilon constant_offset", given("image", "responses", {}, {"eps": 1e-2})),
    _fault("responses_plus", "missing_term number_of_calls", given("image", "responses", {}, {"plus": False})),
    _fault("patch_channels", "permuted_axes", given("image", "patches", {}, {"order": "c p q"})),
    _fault("patch_columns", "permuted_axes", given("image", "patches", {}, {"order": "q p c"})),
    _fault("steps_not_causal", "padding shifted_positions", given("steps", "steps_mixed", {}, {"before": 1})),
    _fault("standard_unbiased", "biased_variance constant_factor", given("any", "standardized", {}, {"less": 1})),
    _fault("standard_epsilon", "epsilon constant_offset", given("any", "standardized", {}, {"eps": 1e-2})),
    _fault("low_rank_scale", "constant_factor", given("any", "adapted", {"alpha": 3.0, "by": "alpha / r"}, {"by": "alpha"})),
    _fault("low_rank_root", "constant_factor", given("any", "adapted", {"alpha": 3.0, "by": "alpha / r"}, {"by": "alpha / sqrt(r)"})),
    _fault("frames_late", "shifted_positions padding", given("steps", "frames", {}, {"centred": False})),
    _fault("frames_window", "other_constant constant_factor other_table", given("steps", "frames", {}, {"periodic": False})),
    _fault("frames_power", "activation number_of_calls one_sided_operation", given("steps", "frames", {}, {"power": 1})),
    _fault("frames_floor", "constant_offset epsilon", given("steps", "frames", {}, {"floor": 1e-4})),
    _fault("frames_decibel", "constant_factor", given("steps", "frames", {"by": 20 / 2.302585}, {"by": 10 / 2.302585})),
    _fault("experts_order", "attention_mask call_order number_of_calls other_operand", given("any", "gated_top", {"whole": False}, {"first": "top"})),
    _fault("experts_whole", "number_of_calls one_sided_operation missing_term", given("any", "gated_top", {"whole": True}, {"whole": False})),
    _fault("unit_added", "epsilon_place epsilon constant_offset number_of_calls", given("any", "unit_of", {}, {"how": "added"})),
    _fault("unit_under_root", "epsilon_place epsilon", given("any", "unit_of", {}, {"how": "under"})),
    _fault("unit_floor", "clamped_value epsilon", given("any", "unit_of", {"small": 1e-3}, {"eps": 1e-12})),
    _fault("unit_floor_of_squares", "clamped_value epsilon_place epsilon", given("any", "unit_of", {"small": 1e-3}, {"how": "floor of squares"})),
    _fault("spread_axis", "axis normalised_axis", given("steps", "spread_of", {}, {"axis": 1})),
    _fault("spread_unbiased", "biased_variance constant_factor", given("any", "spread_of", {}, {"share": 1.25})),
    _fault("root_axis", "axis normalised_axis", given("steps", "root_norm", {}, {"axis": 1})),
    _fault("root_gain", "offset_of_the_scale constant_offset", given("any", "root_norm", {}, {"less": True})),
    _fault("bias_late", "call_order", given("any", "biased", {}, {"late": True})),
    _fault("step_after", "padding shifted_positions", given("steps", "mixed_before", {}, {"from": "after"})),
    _fault("running_back", "reduction permuted_axes direction number_of_calls", given("steps", "running", {}, {"back": True})),
    _fault("running_without", "missing_term number_of_calls shifted_positions constant_factor", given("steps", "running", {}, {"without": True})),
    _fault("quick_gelu", "activation", given("any", "quick_gelu", {}, {"by": 1.702})),
    _fault("silu_scaled", "activation constant_factor", given("any", "quick_gelu", {"by": 1.702}, {"by": 1.0})),
    _fault("cap_other", "constant_factor", given("any", "capped", {"cap": 3.0}, {"cap": 5.0})),
    _fault("heat", "constant_factor", given("any", "heated", {"heat": 2.0}, {"heat": 0.5})),
    _fault("compressed", "activation constant_offset other_function", given("any", "compressed", {}, {"eps": 1e-2})),
    _fault("pad_edge", "padding_mode", given("image", "padded", {"mode": "reflect"}, {"mode": "edge"})),
    _fault("pad_symmetric", "padding_mode", given("image", "padded", {"mode": "reflect"}, {"mode": "symmetric"})),
    _fault("pool_ceil", "padding pool_size other_size", given("end", "ceil_pool", {"ceil": False}, {"ceil": True})),
    _fault("mish", "activation", given("any", "mish", {}, {"silu": True})),
    _fault("straight_through", "stopped_gradient", given("any", "rounded", {}, {"through": False}), phase="gradient"),
]  # fmt: skip


def scored(kind: str, base: dict[str, Any], wrong: dict[str, Any]) -> Plant:
    """A loss that both sides are given, otherwise set on one."""

    def plant(host: Setup, rng: Random) -> Iterator[Change]:
        both = replace(
            host, loss={k: v for k, v in host.loss.items() if k in ("words", "places")} | {"kind": kind, **base}
        )
        yield both, replace(both, loss={**both.loss, **wrong}), ""

    return plant


def _loss(id: str, causes: str, kind: str, base: dict[str, Any], **wrong: Any) -> Fault:
    return _fault(id, causes, scored(kind, base, wrong), "losses by hand", phase="loss")


LOSSES_BY_HAND = [
    _loss("tversky_turned", "constant_factor other_operand", "overlap", {}, a=0.7, b=0.3),
    _loss("tversky_over_batch", "axis reduction", "overlap", {}, batch=True),
    _loss("tversky_smooth", "constant_offset epsilon", "overlap", {}, smooth=1e-5),
    _loss("tversky_below_alone", "one_sided_operation constant_offset missing_term", "overlap", {}, below_alone=True),
    _loss("tversky_background", "slice one_sided_operation", "overlap", {}, **{"from": 1}),
    _loss("tversky_power", "activation one_sided_operation other_function", "overlap", {}, gamma=0.75),
    _loss("tversky_log", "other_function activation number_of_calls", "overlap", {}, log=True),
    _loss("triplet_margin", "constant_offset", "triplet", {"margin": 9.0}, margin=0.5),
    _loss("triplet_squared", "one_sided_operation number_of_calls activation", "triplet", {"margin": 9.0}, squared=True),
    _loss("contrast_heat", "constant_factor", "contrast", {}, heat=0.1),
    _loss("contrast_one_way", "missing_term constant_factor other_operand", "contrast", {}, both=False),
    _loss("distilled_times", "loss_factor constant_factor", "distilled", {}, times=False),
    _loss("distilled_heat", "constant_factor", "distilled", {"times": False}, heat=2.0),
    _loss("latent_mean", "reduction other_function constant_factor", "latent", {}, how="mean"),
    _loss("latent_beta", "constant_factor", "latent", {}, beta=0.5),
    _loss("latent_logs", "one_sided_operation constant_factor", "latent", {}, logs_of="deviation"),
    _loss("normal_full", "constant_offset", "normal", {}, full=True),
    _loss("normal_floor", "clamped_value epsilon", "normal", {}, eps=0.7),
    _loss("pinball_turned", "constant_factor other_operand", "pinball", {}, tau=0.2),
    _loss("charbonnier", "constant_offset epsilon", "charbonnier", {}, eps=1e-3),
    _loss("masked_by_all", "reduction constant_factor", "masked_squares", {}, by="all"),
    _loss("masked_turned", "mask_polarity loss_mask", "masked_squares", {}, turned=True),
    _loss("margin_other", "constant_factor", "margins", {}, margin=0.35),
    _loss("margin_on_others", "mask_polarity constant_factor other_operand constant_offset", "margins", {}, own=False),
    _loss("margin_scale", "constant_factor", "margins", {}, scale=16.0),
    _loss("smoothed_others", "label_smoothing", "smoothed", {}, over="others"),
    _loss("poly_weight", "constant_factor", "poly", {}, eps=2.0),
    _loss("asymmetric_power", "activation other_function constant_factor", "asymmetric", {}, minus=2.0),
    _loss("asymmetric_cut", "constant_offset", "asymmetric", {}, cut=0.2),
    _loss("asymmetric_sum", "reduction loss_factor", "asymmetric", {}, how="sum"),
    _loss("entropy_sign", "constant_factor", "with_entropy", {}, share=-0.1),
    _loss("logsum_share", "constant_factor", "squashed", {}, share=0.01),
    _loss("boxes_over", "loss_formula constant_factor", "boxes", {}, over=False),
    _loss("variation_sum", "reduction other_function constant_factor", "variation", {}, how="sum"),
    _loss("variation_squares", "activation other_function", "variation", {}, power=2),
    _loss("cosine_epsilon", "constant_offset epsilon", "cosines", {}, eps=1e-2),
]  # fmt: skip

FORMULA_FAULTS = [*BY_HAND, *LOSSES_BY_HAND]
