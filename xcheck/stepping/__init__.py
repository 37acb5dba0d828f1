"""The same batch to both sides: re-synced steps, twins, free runs, saved and loaded sides. Compares nothing."""
