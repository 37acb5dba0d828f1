"""What both models do inside a step, found by running them again: where they first part, and what makes them."""
