"""The server's answers about its sessions."""

from causalrn_client.models import Answer


class SessionInfo(Answer):
    """A session as it was at the moment of the answer.

    Attributes:
        id: `ses-` and 32 hexadecimal digits. Sorted by id, sessions are in the order in which they
            were made.
        model: The name of the model that it belongs to.
        fingerprint: The SHA-256 of that model's weights, in hexadecimal.
        n_tokens: How many tokens it holds, including the special ones around the prompts.
        state: `warm` if the server has it in memory, `cold` if the next turn has to compute it
            again from its tokens.
        busy: Whether a request is using it.
        pool_tokens: How many of its tokens are in the server's memory pool. This and the next three
            are 0 for a cold session.
        pool_bytes: How many bytes of the pool it occupies.
        pages_own: How many pages of the pool only it uses.
        pages_shared: How many pages of the pool it shares with others, such as its forks.
        created_at: When it was made, in seconds since 1970.
        used_at: When a request last used it, in seconds since 1970.
        expires_at: When the server will drop it unless it is used before, in seconds since 1970.
        age_seconds: How long ago it was made, in seconds.
        ttl_seconds: How many seconds without use it takes for the server to drop it.
        token_ids: The tokens that it holds; None if not asked for.
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
    """A page of the list of sessions, which is sorted by id.

    Attributes:
        sessions: The sessions on this page.
        next: The id after which the next page starts; None on the last page.
    """

    sessions: list[SessionInfo]
    next: str | None
