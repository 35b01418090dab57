"""Tasks that decoders are trained on and measured by."""
