"""Turns away requests that cannot be served, at all or now, and reserves room for the others."""

import uuid
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from causalrn.model.tokenizers.base import TokenizerError
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.judge import Judge
from causalrn.server.engine.modes import (
    RAW,
    answer_length,
    choose_mode,
    frame,
    needs_context,
    needs_room,
)
from causalrn.server.engine.reservations import Reservations
from causalrn.server.engine.scheduler import Scheduler
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.engine.ticket import Context, Ticket
from causalrn.server.errors import (
    InvalidRequestError,
    OverloadedError,
    RequestTooLargeError,
    SessionFullError,
)
from causalrn.server.settings import Settings

_QUICKLY_ENCODED = 65_536  # characters, which take less than a millisecond


class Admission:
    """Turns what a client sends into a framed prompt, and keeps room for it.

    Room is reserved before a text is tokenized, which may take a while, and given back when the
    request is refused or over.

    Args:
        model: whose tokenizer, framing and length limit apply.
        settings: of the server, with its limits.
        scheduler: knows what the memory pool can hold.
        bytes_per_page: bytes of one page of the pool.
        reservations: where room is kept.
    """

    def __init__(
        self,
        model: ServedModel,
        settings: Settings,
        scheduler: Scheduler,
        bytes_per_page: int,
        reservations: Reservations,
    ) -> None:
        self._model = model
        self._settings = settings
        self._scheduler = scheduler
        self._bytes_per_page = bytes_per_page
        self._reservations = reservations
        tokenizer = model.tokenizer
        self._special = {
            tokenizer.bos_id: "BOS", tokenizer.sep_id: "SEP", tokenizer.eos_id: "EOS"
        }  # fmt: skip

    def admit(
        self,
        source: str | Sequence[int],
        params: GenerationParams,
        context: Context | None = None,
        *,
        owner: str = "",
    ) -> Ticket:
        """Check a request and reserve what it may need, until its id is released.

        Args:
            source: text, or content ids.
            params: what is asked for.
            context: what the prompt goes on from.
            owner: whose memory the request may share.

        Raises:
            OverloadedError: there is no room for it now.
            InvalidRequestError: the model cannot read the text or an id, or the prompt is too long
                for it, or for an answer that must be whole; it has no such mode, or no such id as
                the bias names; or the mode needs a session.
            SessionFullError: it is too long only for what its context leaves.
            RequestTooLargeError: the memory pool could never hold it.
        """
        mode = choose_mode(self._model, params.mode)
        if context is None and needs_context(self._model, mode):
            raise InvalidRequestError(f"mode: {mode!r} needs a 'session_id'", param="mode")
        id = f"gen-{uuid.uuid4().hex}"
        n_context = None if context is None else len(context.token_ids)
        # A character is four bytes at most, and hardly any text becomes more tokens than bytes.
        n_content = len(source)
        if isinstance(source, str) and not source.isascii():
            n_content *= 4
        # What exceeds the whole pool is refused below for that, and not because others wait.
        allocator = self._scheduler.pool.allocator
        n_framing = len(frame(self._model, [], mode))
        n_held = (n_context or 0) + n_framing + n_content + (params.max_tokens or 0)
        self._reserve(id, min(n_held, allocator.n_pages * allocator.page_size), params.n)
        try:
            ids, prompt, max_tokens = self._check(source, params, mode, n_context)
        finally:
            self._reservations.release(id)
        self._reserve(id, (n_context or 0) + _n_held(prompt, max_tokens), params.n)
        judge = None
        if mode != RAW and max_tokens:
            before = () if context is None else context.token_ids
            judge = Judge(self._model.task, mode, ids, before, params.allow_partial)
        params = replace(params, max_tokens=max_tokens)
        return Ticket(id, prompt, params, context, owner, judge)

    def admit_all(
        self, requests: Sequence[tuple[str | Sequence[int], GenerationParams]], *, owner: str = ""
    ) -> list[Ticket]:
        """Admit several requests, all of them or none.

        Raises:
            ServiceError: as `admit`, for the first that is refused.
            RequestTooLargeError: there is no room for all of them even when there are no others.
        """
        n_samples = sum(params.n for _, params in requests)
        most = self._settings.max_running + self._settings.max_waiting
        if len(requests) > 1 and n_samples > most:
            raise RequestTooLargeError(
                f"the server holds {most} samples at once, these prompts make {n_samples}; send "
                "fewer of them",
                param="prompt",
            )
        tickets: list[Ticket] = []
        others = self._reservations.n_samples
        try:
            for source, params in requests:
                tickets.append(self.admit(source, params, owner=owner))
        except BaseException as error:
            for ticket in tickets:
                self._reservations.release(ticket.id)
            if tickets and not others and isinstance(error, OverloadedError):
                raise RequestTooLargeError(
                    f"the server has room for {len(tickets)} of these {len(requests)} prompts at "
                    "once; send fewer of them, shorten them or lower max_tokens",
                    param="prompt",
                ) from None
            raise
        return tickets

    def _reserve(self, id: str, n_held: int, n_samples: int) -> None:
        n_pages = n_samples * self._scheduler.pool.allocator.pages_for(n_held)
        self._reservations.take(id, n_samples, n_pages * self._bytes_per_page)

    def _check(
        self,
        source: str | Sequence[int],
        params: GenerationParams,
        mode: str,
        n_context: int | None,
    ) -> tuple[Sequence[int], list[int], int]:
        """The content ids of a request, its framed prompt, and the most tokens of its answer."""
        self._check_bias(params)
        ids: Sequence[int]
        longest = self._model.config.max_seq_len
        if n_context is not None:
            longest = min(longest, self._settings.max_session_tokens)
        n_context = n_context or 0
        n_framing = len(frame(self._model, [], mode))
        most = self._most_ids(params, mode, longest - n_framing, n_context)
        # The session is to blame only if an empty one would take more.
        blamed = n_context if most < self._most_ids(params, mode, longest - n_framing, 0) else 0
        if isinstance(source, str):
            param = params.field or "prompt"
            fewest = -(-len(source) // self._model.tokenizer.longest)
            if fewest > most and len(source) > _QUICKLY_ENCODED:
                self._refuse(params, param, f"at least {fewest}", most, blamed)
            ids = self._encode(source, param)
        else:
            param, ids = params.field or "token_ids", source
        if len(ids) > most:
            self._refuse(params, param, str(len(ids)), most, blamed)
        room = longest - n_context - n_framing - len(ids)
        if ids is source:
            self._check_ids(ids, param, may_be_special=mode == RAW)
        prompt = frame(self._model, ids, mode)
        wanted = answer_length(self._model, mode, len(ids), n_context)
        max_tokens = self._max_tokens(params, wanted, n_context + len(prompt), room)
        if params.min_tokens > max_tokens:
            raise InvalidRequestError(
                f"min_tokens: must be at most max_tokens, which is {max_tokens}",
                param="min_tokens",
            )
        held = n_context + _n_held(prompt, max_tokens)
        if not self._scheduler.fits(held):
            allocator = self._scheduler.pool.allocator
            raise RequestTooLargeError(
                f"the request may hold {held} tokens, the server's memory pool holds "
                f"{allocator.n_pages * allocator.page_size}; shorten it or lower max_tokens",
                param=param,
            )
        return ids, prompt, max_tokens

    def _most_ids(self, params: GenerationParams, mode: str, room: int, n_context: int) -> int:
        """Most ids of a prompt, so that what must fit of its answer does.

        Args:
            params: what is asked for.
            mode: what the prompt asks for.
            room: tokens for context, prompt and answer.
            n_context: how many of them the context takes.
        """
        room -= n_context
        if not self._is_whole(params, mode):
            return room - int(params.max_tokens != 0)
        limit = self._settings.max_tokens

        def needed(n: int) -> int:
            length = answer_length(self._model, mode, n, n_context)
            return n + length if length <= limit else room + 1

        return bisect_right(range(max(room, 0) + 1), room, key=needed) - 1

    def _is_whole(self, params: GenerationParams, mode: str) -> bool:
        """Whether there must be room for all of an answer: only the client may cut it."""
        return params.max_tokens is None and needs_room(self._model, mode)

    def _refuse(
        self, params: GenerationParams, param: str, n_ids: str, most: int, n_context: int
    ) -> NoReturn:
        """Say that a prompt is too long, for the model or for what is left of its session."""
        advice = ""
        if most > 0 and self._is_whole(params, choose_mode(self._model, params.mode)):
            advice = (
                " if the answer is to be whole; shorten it, or send 'max_tokens' for a part of "
                "the answer"
            )
        if not n_context:
            raise InvalidRequestError(
                f"{param}: is {n_ids} tokens long, this model takes at most {most}{advice}",
                param=param,
            )
        left = f"it takes at most {most} more" if most > 0 else "it is full; begin another"
        raise SessionFullError(
            f"{param}: is {n_ids} tokens long; the session has {n_context} already, {left}{advice}",
            param=param,
        )

    def _max_tokens(self, params: GenerationParams, wanted: int, n_read: int, room: int) -> int:
        most = self._settings.max_tokens
        if params.max_tokens is None:
            return min(wanted, room, most)
        if params.max_tokens > most:
            raise InvalidRequestError(f"max_tokens: must be at most {most}", param="max_tokens")
        if params.max_tokens > room:
            raise InvalidRequestError(
                f"max_tokens: must be at most {room} after a prompt of {n_read} "
                f"tokens; there is room for {n_read + room} in all",
                param="max_tokens",
            )
        return params.max_tokens

    def _check_bias(self, params: GenerationParams) -> None:
        vocab_size = self._model.tokenizer.vocab_size
        for token_id in params.sampling.logit_bias:
            if token_id >= vocab_size:
                param = f"logit_bias.{token_id}"
                raise InvalidRequestError(
                    f"{param}: must be an id between 0 and {vocab_size - 1}", param=param
                )

    def _encode(self, text: str, param: str) -> list[int]:
        try:
            return self._model.tokenizer.encode(text)
        except TokenizerError as error:
            raise InvalidRequestError(f"{param}: {error}", param=param) from None

    def _check_ids(self, ids: Sequence[int], param: str, *, may_be_special: bool) -> None:
        vocab_size = self._model.tokenizer.vocab_size
        are_known = min(ids, default=0) >= 0 and max(ids, default=0) < vocab_size
        if are_known and (may_be_special or self._special.keys().isdisjoint(ids)):
            return
        for index, token_id in enumerate(ids):
            if not 0 <= token_id < vocab_size:
                at = f"{param}[{index}]"
                raise InvalidRequestError(f"{at}: must be between 0 and {vocab_size - 1}", param=at)
            if token_id in self._special and not may_be_special:
                at = f"{param}[{index}]"
                raise InvalidRequestError(
                    f"{at}: {token_id} is the special id {self._special[token_id]}, which the "
                    "server adds where the model needs it",
                    param=at,
                )


def _n_held(prompt: list[int], max_tokens: int) -> int:
    """Most tokens of a prompt and its answer that the pool holds; the last one is never read."""
    return max(len(prompt), len(prompt) + max_tokens - 1)
