"""Numerical operations of the decoder: tensors in, tensors out, no parameters of their own."""
