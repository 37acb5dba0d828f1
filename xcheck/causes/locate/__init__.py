"""Where a difference is made: both sides are run again, call by call."""
