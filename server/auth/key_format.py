"""What an API key looks like, and how it is hashed.

A server knows only the SHA-256 of each key. A fast hash is enough: a key is 256 random bits,
which nobody can guess, however fast they try. Slow hashes protect passwords that people think up,
and with one, every wrong key that a stranger sends would cost the server's time.
"""

import hashlib
import secrets
from typing import Literal

Role = Literal["user", "admin"]
"""What a key may do; an admin may do everything."""

NAME = r"[A-Za-z0-9._-]{1,64}"
"""A regular expression of the names that keys may have."""

HASH = "sha256:"
"""How a hash begins; 64 hexadecimal digits follow."""

_PREFIX = "crn-"  # by which programs that look for leaked secrets recognize a key


def new_key() -> tuple[str, str]:
    """A new key, and its hash, which is all that a server needs to know."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, HASH + digest_of(secret).hex()


def digest_of(secret: str) -> bytes:
    """The SHA-256 of a key, or of anything else that a client sent as one."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
