"""The client for threads, which `unasync.py` writes."""
