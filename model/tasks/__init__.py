"""Tasks: what decoders are trained on, measured by and asked to do. One file a task."""
