"""Sequence mixers: one file a mixer, one interface (`forward`, `extend`, the state it keeps)."""
