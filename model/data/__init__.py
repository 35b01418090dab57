"""Texts of users as training data: files, the documents in them, and their tokens on disk."""
