"""The engine: one thread that makes tokens for many requests, and all that it needs."""
