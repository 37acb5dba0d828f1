"""The tie contract: which parameters are one storage on each side, and whether they stay it through training."""
