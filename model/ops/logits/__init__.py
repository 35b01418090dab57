"""From the residual stream to logits, for new tokens of sequences."""
