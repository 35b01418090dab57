"""The wire, whatever is sent over it."""
