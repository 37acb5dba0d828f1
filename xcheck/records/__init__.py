"""What a side holds and what it did, as data: read by the comparison, which asks no framework."""
