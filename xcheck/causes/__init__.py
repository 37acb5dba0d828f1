"""Named explanations of what a run found, one file per family; each cause is a small function."""
