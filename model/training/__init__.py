"""Training decoders from presets."""
