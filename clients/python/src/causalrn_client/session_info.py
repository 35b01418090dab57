"""What the server says about the sessions that it keeps."""

from causalrn_client.models import Answer


class SessionInfo(Answer):
    """A session, as it was when the server was asked.

    Attributes:
        id: `ses-` and 32 hexadecimal digits; ids sort in the order in which they were made.
        model: The model that it belongs to.
        fingerprint: SHA-256 of that model's weights, in hexadecimal.
        n_tokens: Tokens that it holds, those that wrap the prompts included.
        state: `warm` where the server has it in its memory, `cold` where it has to compute it again
            from its tokens.
        busy: Whether a request has it now.
        pool_tokens: Tokens of it that are in the server's memory; 0 when it is cold, as are:
        pool_bytes: Bytes of that memory that it takes.
        pages_own: Pages of that memory that it alone takes.
        pages_shared: Pages that it shares with others, such as its forks.
        created_at: When it was made, in seconds since 1970.
        used_at: When a request last used it, in seconds since 1970.
        expires_at: When it will be gone unless it is used before, in seconds since 1970.
        age_seconds: Seconds since it was made.
        ttl_seconds: Seconds without use after which it is gone.
        token_ids: The tokens themselves; None where they were not asked for.
    """

    id: str
    model: str
    fingerprint: str
    n_tokens: int
    state: str
    busy: bool
    pool_tokens: int = 0
    pool_bytes: int = 0
    pages_own: int = 0
    pages_shared: int = 0
    created_at: float
    used_at: float
    expires_at: float
    age_seconds: float
    ttl_seconds: float
    token_ids: list[int] | None = None


class SessionPage(Answer):
    """Some of the server's sessions, in the order of their ids.

    Attributes:
        sessions: These.
        next: The id to ask for those after it; None where there are no more.
    """

    sessions: list[SessionInfo]
    next: str | None
