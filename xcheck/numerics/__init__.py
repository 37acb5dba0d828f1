"""Arrays against arrays: measures, allowances, verdicts on one quantity; no framework and no layer."""
