"""A turn of a session, from the commit of its prompt until the session is given back."""

import asyncio
from collections.abc import Callable

from server.engine.deltas import Outcome
from server.errors import ServiceError
from server.sessions.store.base import Append


class Turn:
    """A turn that runs, and what the engine made of it that is not committed yet.

    Args:
        request_id: the engine's id of the request.
        session_id: id of the session, which the store has leased to this server.
        n_tokens: tokens of its log, with the turn's prompt.
        eos_id: EOS, which deltas leave out and the log keeps.
        free: called once, to unlock the session for other requests.

    Attributes:
        request_id, session_id: as above.
        n_tokens: tokens of the log that are committed.
        is_over: whether nothing more is added.
    """

    def __init__(
        self,
        request_id: str,
        session_id: str,
        n_tokens: int,
        eos_id: int,
        free: Callable[[], None],
    ) -> None:
        self.request_id = request_id
        self.session_id = session_id
        self.n_tokens = n_tokens
        self.is_over = False
        self._eos_id = eos_id
        self._free = free
        self._token_ids: list[int] = []
        self._outcomes: list[Outcome] = []
        self._is_failed = False
        self._freed = asyncio.Event()

    def add(self, outcome: Outcome) -> None:
        """Take what the engine made; the last delta, or an error, ends the turn."""
        self._outcomes.append(outcome)
        _, made = outcome
        if isinstance(made, ServiceError):
            self.is_over = True
            return
        self._token_ids += made.token_ids[made.n_echoed :]
        if made.is_eos:
            self._token_ids.append(self._eos_id)
        self.is_over = made.finish_reason is not None

    def cut_off(self) -> None:
        """End the turn, and drop what was not taken to be committed."""
        self.is_over = True
        self._forget()

    def take(self) -> tuple[Append, list[Outcome]]:
        """What to commit next, and the outcomes that may be read after that."""
        append = Append(self.session_id, self.n_tokens, self._token_ids, done=self.is_over)
        outcomes = self._outcomes
        self._forget()
        return append, outcomes

    def committed(self, append: Append) -> None:
        """Note that what was taken is in the log."""
        self.n_tokens += len(append.token_ids)

    def fail(self) -> bool:
        """Note that what was taken is not in the log, so that what came since would leave a gap.

        Returns:
            Whether this is the first failure.
        """
        is_first = not self._is_failed
        if is_first:
            self._is_failed = True
            self._forget()
        return is_first

    def give_back(self) -> None:
        """Unlock the session; called once."""
        self._free()
        self._freed.set()

    async def freed(self) -> None:
        """Return when the session is given back."""
        await self._freed.wait()

    def _forget(self) -> None:
        self._token_ids, self._outcomes = [], []
