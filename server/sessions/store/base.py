"""What a session store promises: the token log of every session, and who may write to it.

The log is the truth about a session; everything else can be computed again from it. A turn begins
with `begin`, which leases the session to this server and appends the prompt, unless that comes with
the answer. `append` adds what was generated; with `done` it also gives the session back. The leases
of a server that vanishes end after a while.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from causalrn.server.errors import ServiceError


@dataclass(frozen=True)
class SessionRecord:
    """What a store knows of a session, besides its tokens.

    Times are those of the store's clock: see `SessionStore.now`.

    Attributes:
        id: `ses-` and 32 hexadecimal digits; ids sort by the time at which they were made.
        model: name of the model that it was made with.
        fingerprint: SHA-256 of that model's weights, hexadecimal.
        n_tokens: tokens of its log.
        created_at, used_at: seconds since 1970; used_at is when a turn last began or ended.
        ttl: how many seconds after `used_at` it expires.
        busy: whether a turn has leased it.
        owner: name of the API key that made it; "" if there was none.
    """

    id: str
    model: str
    fingerprint: str
    n_tokens: int
    created_at: float
    used_at: float
    ttl: float
    busy: bool = False
    owner: str = ""

    @property
    def expires_at(self) -> float:
        """When the session expires, unless it is used before; seconds since 1970."""
        return self.used_at + self.ttl


@dataclass(frozen=True)
class Append:
    """Tokens to add to a session's log.

    Attributes:
        id: the session's id.
        start: how many tokens the log has before these; any other number is an error.
        token_ids: what to add; may be empty.
        done: whether the turn is over, and the session free for others.
    """

    id: str
    start: int
    token_ids: Sequence[int]
    done: bool


def could_be_id(id: str) -> bool:
    """Whether an id that a client sent could be a session's.

    Databases need not be asked for the others, and refuse some of their characters.
    """
    return id.isascii() and id.isprintable()


class SessionStore(Protocol):
    """Durable logs of sessions, in one place.

    All methods belong to one event loop and never block it. Once a method has returned, its changes
    are committed: no crash of this process or its machine undoes them. Expired sessions do not
    exist for any method.

    Every method but `close` raises `StoreUnavailableError` when the store cannot do its work now
    (cannot be opened or reached, disk full, read-only, damaged); what was committed stays, and a
    later call may succeed. Mostly nothing is changed then. But a connection can be lost, or a disk
    fail, just when a change is being committed; then it is as if the call had been cancelled.

    A call that is cancelled is made as a whole or not at all, and the caller does not know which:
    a log may be longer than the caller thinks, and must be read again. A session that such a
    `begin` leased is given back.

    Methods that take the id of a session raise `SessionNotFoundError` if there is none.
    """

    async def open(self) -> None:
        """Connect, and create what is missing. May be called again after it failed.

        The other methods do the same when they need to.

        Raises:
            StartupError: the store can have one process only, and another has it.
        """

    def check_ready(self) -> None:
        """Return if the store worked when it was last used, which `renew` does every few seconds.

        Raises:
            StoreUnavailableError: it did not.
        """

    async def close(self) -> None:
        """Give back all sessions that this server has leased, and disconnect; never fails.

        Until `open` is called again, the store is unavailable.
        """

    async def now(self) -> float:
        """The store's clock, in seconds since 1970.

        That of a database is the database's. That of a file is the machine's, without the jumps
        that it makes when somebody sets it.
        """

    async def create(
        self,
        record: SessionRecord,
        token_ids: Sequence[int],
        limit: int,
        owner_limit: int | None = None,
    ) -> None:
        """Add a session with a log; no turn has leased it.

        Raises:
            TooManySessionsError: there are `limit` of them already, or `owner_limit` of the
                record's owner.
            SessionExistsError: its id is taken.
        """

    async def get(self, id: str) -> SessionRecord:
        """What is known of a session."""

    async def read(self, id: str) -> tuple[SessionRecord, list[int]]:
        """A session and its whole log, as of one moment.

        Raises:
            SessionDamagedError: the log is not what was written.
        """

    async def begin(self, id: str, start: int, token_ids: Sequence[int]) -> None:
        """Lease a session for a turn and append to its log, or do neither.

        Args:
            id: the session's id.
            start: how many tokens its log has before.
            token_ids: what to append; may be empty.

        Raises:
            SessionBusyError: another turn has leased it, or its log has another length by now.
        """

    async def append(self, appends: Sequence[Append]) -> list[ServiceError | None]:
        """Add to the logs of sessions that this server has leased, in one commit.

        Returns:
            For each, why it alone failed: `SessionNotFoundError` if the session is gone,
            `SessionBusyError` if this server has no lease of it, or its length is not `start`.
        """

    async def renew(self, ids: Sequence[str]) -> None:
        """Make the leases of some sessions last longer; to be called every few seconds.

        Sessions that are gone, or leased to another server by now, are skipped; the next `append`
        reports them.
        """

    async def replace(self, record: SessionRecord, token_ids: Sequence[int]) -> None:
        """Give an existing session another log, time-to-live, model and fingerprint.

        It counts as used now. Its other fields, such as its owner, stay as they are, whatever the
        record says.

        Raises:
            SessionBusyError: a turn has leased it.
        """

    async def delete(self, id: str) -> None:
        """Remove a session and its log, even if a turn has leased it."""

    async def sweep(self) -> int:
        """Remove expired sessions that no turn has leased, and return how many.

        To be called only when the machine's clock, and the store's, have not jumped for a while.
        """

    async def count(self, owner: str | None = None) -> int:
        """How many sessions there are, of one owner or of all."""

    # The last, since it hides the type of this name from what follows.
    async def list(
        self, after: str | None, limit: int, owner: str | None = None
    ) -> list[SessionRecord]:
        """Up to `limit` sessions, of one owner or of all, whose ids come after one, in order."""
