"""The state and the computations of a side as plain data; the comparison reads it without any framework."""
