"""The formats of answers."""
