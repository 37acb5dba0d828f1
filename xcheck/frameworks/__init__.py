"""The two frameworks, each behind the same protocol; each file imports its own framework alone."""
