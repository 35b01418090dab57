"""Sessions whose memory is in the pool while no request runs in them."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from causalrn.server.engine.block_allocator import BlockAllocator
from causalrn.server.engine.sequence import ROOT, Sequence


@dataclass(frozen=True)
class WarmSession:
    """The memory of an idle session in the pool.

    Attributes:
        token_ids: the tokens that are held.
        pages: the pages that hold them; the last one's row holds the state at their end.
        n_chained, link: what the prefix cache knows of them; see `Sequence`.
        private: whether the memory came from elsewhere; see `Sequence`.
    """

    token_ids: list[int]
    pages: list[int]
    n_chained: int = 0
    link: int = ROOT
    private: bool = False


@dataclass(frozen=True)
class PoolUse:
    """How much of the pool a session has; zeros if it is cold.

    Attributes:
        n_tokens: tokens that are held.
        pages_own: pages that nobody else uses.
        pages_shared: pages that other sessions or requests use, too.
    """

    n_tokens: int = 0
    pages_own: int = 0
    pages_shared: int = 0

    @property
    def is_warm(self) -> bool:
        """Whether anything is held."""
        return self.n_tokens > 0


class WarmSessions:
    """Keeps the pages of idle sessions, in the order of their last use.

    Args:
        allocator: counts the users of pages.
    """

    def __init__(self, allocator: BlockAllocator) -> None:
        self._allocator = allocator
        self._sessions: OrderedDict[str, WarmSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def ids(self) -> list[str]:
        """The sessions of which something is held, oldest use first."""
        return list(self._sessions)

    def n_pages(self, id: str) -> int:
        """How many pages are held of a session."""
        return len(self._sessions[id].pages)

    def get(self, id: str) -> WarmSession | None:
        """A session's memory; None if it has none."""
        return self._sessions.get(id)

    def use(self, id: str) -> PoolUse:
        """How much is held of an idle session."""
        session = self._sessions.get(id)
        return PoolUse() if session is None else self.count(len(session.token_ids), session.pages)

    def count(self, n_tokens: int, pages: Collection[int]) -> PoolUse:
        """How much it is if some pages hold so many tokens."""
        shared = sum(self._allocator.n_users(page) > 1 for page in pages)
        return PoolUse(n_tokens, len(pages) - shared, shared)

    def keep(self, id: str, session: WarmSession) -> None:
        """Take over the pages of a session, in place of those that are held of it."""
        self.drop(id)
        self._sessions[id] = session

    def park(self, sequence: Sequence, n_tokens: int) -> None:
        """Take over the pages of a running sequence at the end of its turn.

        Args:
            sequence: the sequence, which the caller removes next.
            n_tokens: how many of its tokens the session keeps; the last of their pages has a row
                for the state at their end.
        """
        assert sequence.session is not None
        n_pages = self._allocator.pages_for(n_tokens)
        self._allocator.free(sequence.pages[n_pages:])
        is_chained = sequence.n_chained <= n_pages  # else the chain is found again, page by page
        session = WarmSession(
            sequence.token_ids[:n_tokens],
            sequence.pages[:n_pages],
            sequence.n_chained if is_chained else 0,
            sequence.link if is_chained else ROOT,
            sequence.private,
        )
        sequence.pages = []
        self.keep(sequence.session, session)

    def match(self, id: str, token_ids: list[int]) -> WarmSession | None:
        """A session's memory, if it is that of a beginning of `token_ids`.

        One token is always left to compute, since only that gives logits. Other memory is given up;
        whole pages of an equal beginning are still found in the prefix cache.
        """
        if (session := self._sessions.get(id)) is None:
            return None
        n_held = len(session.token_ids)
        if n_held < len(token_ids) and token_ids[:n_held] == session.token_ids:
            return session
        self.drop(id)
        return None

    def release(self, id: str) -> WarmSession:
        """Hand a session's pages over to a sequence that goes on with them."""
        return self._sessions.pop(id)

    def share(self, id: str) -> None:
        """Let a sequence go on with a session's pages, which the session keeps as well."""
        self._allocator.share(self._sessions[id].pages)
        self._sessions.move_to_end(id)

    def fork(self, id: str, child: str) -> None:
        """Let a new session share what is held of another, if anything is."""
        if (session := self._sessions.get(id)) is not None:
            self._allocator.share(session.pages)
            self.keep(child, session)
            self._sessions.move_to_end(id)

    def drop(self, id: str) -> None:
        """Give up what is held of a session, if anything is."""
        if (session := self._sessions.pop(id, None)) is not None:
            self._allocator.free(session.pages)
