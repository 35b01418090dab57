"""A session as clients see it."""

from dataclasses import dataclass

from causalrn.server.engine.warm_sessions import PoolUse
from causalrn.server.sessions.store.base import SessionRecord


@dataclass(frozen=True)
class SessionInfo:
    """What is known of a session.

    Attributes:
        record: what the store knows of it.
        use: how much of the pool it has.
        pool_bytes: bytes of the pages that it has there.
        token_ids: its log; None unless it was asked for.
    """

    record: SessionRecord
    use: PoolUse
    pool_bytes: int = 0
    token_ids: list[int] | None = None
