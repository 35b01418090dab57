"""The API that clients use."""
