"""The client for asyncio, and the source from which `unasync.py` writes the one for threads."""
