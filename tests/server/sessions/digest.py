"""Snapshots that somebody changed who knows the format."""

import hashlib


def with_digest(data: bytes) -> bytes:
    """The file with the digest that belongs to what it says now."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()
