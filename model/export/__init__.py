"""Checkpoints as other programs take them."""
