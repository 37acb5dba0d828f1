"""The two frameworks, each behind the same protocol; each folder imports its own framework only."""
