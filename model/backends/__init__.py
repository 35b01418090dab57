"""What decoders serve on: one file a backend, one interface."""
