"""What an API key looks like, and how it is hashed.

A server knows only the SHA-256 of each key. A fast hash is enough, and right: a key is 256 random
bits, so that nobody can find it by trying, however fast the trying is. Slow hashes protect
passwords that people think up, of which there are none here; and with one, every stranger's wrong
key would cost the server's time.
"""

import hashlib
import secrets
from typing import Literal

Role = Literal["user", "admin"]
"""What a key may do; an admin may everything."""

NAME = r"[A-Za-z0-9._-]{1,64}"
"""What a key may be called."""

HASH = "sha256:"
"""How a hash begins; 64 hexadecimal digits follow."""

_PREFIX = "crn-"  # by which programs that look for leaked secrets can know one


def new_key() -> tuple[str, str]:
    """A new key, and the hash that a server is to know of it."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, HASH + digest_of(secret).hex()


def digest_of(secret: str) -> bytes:
    """The SHA-256 of a key, or of whatever else somebody sent as one."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
