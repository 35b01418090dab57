"""HTTP itself: what is the same whatever is asked for."""
