"""The channel MLP for new tokens of sequences."""
