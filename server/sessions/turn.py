"""A turn of a session, from the moment it is leased until it is given back."""

import asyncio
from collections.abc import Callable, Sequence

from causalrn.server.engine.deltas import Outcome
from causalrn.server.errors import ServiceError
from causalrn.server.sessions.store.base import Append


class Turn:
    """A turn that runs, and what the engine made of it that is not committed yet.

    Args:
        request_id: the engine's id of the request.
        session_id: id of the session, which the store has leased to this server.
        n_tokens: tokens of its log, with the turn's prompt if that is committed.
        eos_id: EOS, which deltas leave out and the log keeps.
        free: called once, to unlock the session for other requests.
        prompt: the turn's prompt if it is to be committed together with the first token of the
            answer, and not at all if there is none.

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
        prompt: Sequence[int] = (),
    ) -> None:
        self.request_id = request_id
        self.session_id = session_id
        self.n_tokens = n_tokens
        self.is_over = False
        self._eos_id = eos_id
        self._free = free
        self._prompt = list(prompt)
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
        answer = made.token_ids[made.n_echoed :] + [self._eos_id] * made.is_eos
        if answer:
            self._token_ids += self._prompt + answer
            self._prompt = []
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
