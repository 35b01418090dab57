"""Token ids to vectors, with positions, for new tokens of sequences."""
