"""Checkpoints as folders that `transformers` loads, with the code that it needs for that."""
