"""Why the first difference is there: where it is made, hypotheses about it, and their proof."""
