"""The ids of all causes, which a pair can accept by name. `docs/causes.md` explains each."""

from __future__ import annotations

LAYERS = """
other_inputs epsilon frozen_mode momentum momentum_convention biased_variance statistics_updates call_order
joined_batches channel_axis shared_slopes groups normalised_axis mean_not_subtracted offset_of_the_scale activation
padding padding_mode pool_border resize_coordinates interpolation resize_border antialias cubic_coefficient
resize_factor rounded_positions reset_after gate_order forget_bias second_bias recurrent_activation last_step direction
two_biases mask_polarity mask_fill attention_mask causal_mask attention_scale constant_factor padding_row permuted_axes
axis shifted_positions transposed_kernel turned_weight flipped_kernel other_parameter scaled_weight other_part
weight_function other_operand other_function missing_term number_of_calls random_layer dropout_rate dropout_missing
dropout_place dropout_kind dropout_noise dropout_at_inference bias dilation stride pool_size epsilon_place slice
other_table constant_offset other_constant statistics_not_updated clamped_value mask_of_one_side past_the_end
exchanged_axes other_size
"""

LOSSES = """
from_logits loss_formula label_smoothing huber_width focal_gamma focal_alpha swapped_arguments clipped_probabilities
reduction ignored_label loss_mask class_weights example_weights weighted_reduction loss_factor broadcast_targets
loss_weights penalty_factor penalty_norm penalty_missing extra_loss_term one_sided_operation
"""

GRADIENTS = """
lost_use detached_use doubled_use averaged_uses stopped_gradient scaled_gradient clipped_gradient gradient_not_reset
transferred_copy
"""

UPDATES = """
optimizer_formula optimizer_setting another_optimizer schedule carried_momentum rate_of_some clipping clipping_formula
clipping_counts_a_tie_twice decay_in_the_gradient weight_decay decay_exclusion decay_counts_a_tie_twice decay_not_scaled
decay_after_the_step accumulated_gradients average_start average_momentum averages_over_weights constraint
constraint_missing constraint_axis constraint_epsilon squares_of_lookups slot_start scaled_step
"""

TIES_AND_FILES = """
frozen_parameters other_width tie_missing tie_extra equal_but_untied unregistered_parameters optimizer_orphan
parameter_listed_twice tie_lost_in_step tie_lost_by_assign tie_lost_on_save tie_made_on_save buffer_not_persistent
value_not_saved setting_not_saved state_not_saved optimizer_state_not_saved optimizer_left_behind
decay_exclusion_not_saved penalty_per_copy same_random_stream exported_in_training_mode weights_rounded
initializer_altered initializers_merged float32_constant float32_operation
"""

CAUSES = tuple(" ".join((LAYERS, LOSSES, GRADIENTS, UPDATES, TIES_AND_FILES)).split())
"""Every id; a place without a known cause (`unexplained`) cannot be accepted."""
