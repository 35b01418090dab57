"""Tokenizers: one file for each kind."""
