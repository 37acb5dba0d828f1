"""The tie contract: which parameters share one storage on each side, and whether they still do after training."""
