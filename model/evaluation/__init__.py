"""Measuring trained decoders."""
