"""One sample of a request in the engine: its sequence, and how logits become deltas."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from causalrn.model.draws import Draw
from causalrn.model.sampling import Sampler, SamplingParams, TokenLogprob, token_logprob
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.server.engine.deltas import Delta, FinishReason, Progress
from causalrn.server.engine.judge import Judge
from causalrn.server.engine.modes import RAW
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.stop_strings import StopStrings

Logits = Callable[[], NDArray[np.float32]]
"""Gives logits that only few ask for, and that are elsewhere before."""


@dataclass(frozen=True)
class GenerationParams:
    """What a request asks for, besides its prompt.

    Attributes:
        max_tokens: the most tokens to generate; None for as many as the mode may need, 0 for none.
        sampling: how tokens are chosen.
        stop: strings that end a sample.
        n: how many samples.
        logprobs: how many of the likeliest tokens come with each token's log-probability; None for
            no log-probabilities at all.
        echo: whether the samples begin with the prompt.
        ignore_eos: whether EOS is a token like any other.
        min_tokens: until so many are generated, neither EOS nor a stop string ends a sample.
        priority: requests with a lower one are served first.
        timeout: seconds after which the request ends with an error; None for no limit.
        mode: what the prompt asks for; None for the first mode of the model's task.
        allow_partial: whether an answer is wanted however little the model found of what the prompt
            asks for.
        speculate: whether tokens may be guessed and verified, which changes none of them.
        field: what errors call the prompt; None for `prompt` or `token_ids`.
    """

    max_tokens: int | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: Items[str] = ()
    n: int = 1
    logprobs: int | None = None
    echo: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    priority: int = 0
    timeout: float | None = None
    mode: str | None = None
    allow_partial: bool = False
    speculate: bool = True
    field: str | None = None


class Generation:
    """Samples the tokens of a sequence and turns them into text.

    Args:
        request_id: the engine's id of the request.
        sequence: what the scheduler knows of the sample; it begins with the framed prompt.
        params: what the request asks for.
        tokenizer: the model's.
        progress: how far the request has got; all its samples share it.
        index: the sample's number in the request, from 0.
        n_context: tokens before the prompt's own, which the request goes on from.
        others: the request's other samples, which go on from the prompt once it is computed.
        judge: judges the answer; None if nothing is expected of it.
    """

    def __init__(
        self,
        request_id: str,
        sequence: Sequence,
        params: GenerationParams,
        tokenizer: Tokenizer,
        progress: Progress,
        index: int = 0,
        n_context: int = 0,
        others: Items["Generation"] = (),
        judge: Judge | None = None,
    ) -> None:
        self.request_id = request_id
        self.sequence = sequence
        self.progress = progress
        self.judge = judge
        self._others = list(others)
        self._params = params
        self._index = index
        self._n_context = n_context
        self._eos_id = tokenizer.eos_id
        self._specials = {tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id}
        self._tokenizer = tokenizer
        self._sampler = Sampler(params.sampling, index, sequence.token_ids)
        self._takes_likeliest = self._sampler.is_greedy and not params.min_tokens
        self._follows_likeliest = (
            self._takes_likeliest and not params.stop and params.logprobs is None
        )
        self._is_foreseen = params.logprobs is None and not params.sampling.penalizes
        self._decoder = tokenizer.stream_decoder(after=sequence.token_ids)
        self._stop = StopStrings(params.stop)
        self._prompt_logprobs: list[TokenLogprob] = []
        self._n_decoded = self._n_passed_on = 0  # characters of the text so far
        self._echo: _Echo | None = None
        self._owes_echo = params.echo and not index  # the others share that of the first

    @property
    def others(self) -> "Items[Generation]":
        """The samples that go on from the prompt, too, until they part."""
        return self._others

    @property
    def may_part(self) -> bool:
        """Whether `part` has anything to do."""
        return self._owes_echo or bool(self._others)

    @property
    def reads_prompt(self) -> bool:
        """Whether the logits after every token of the prompt are wanted."""
        return self._params.echo and self._params.logprobs is not None

    def read(self, start: int, logits: NDArray[np.float32]) -> None:
        """Note the log-probabilities of the prompt's tokens.

        Args:
            start: place of the first token that was read.
            logits: `[N, V]`, after this token and those that follow it.

        Raises:
            FloatingPointError: logits that are not numbers.
        """
        _check_finite(logits)
        sequence = self.sequence
        for place, row in enumerate(logits, start + 1):
            if place >= sequence.n_prompt or place != len(self._prompt_logprobs) + 1:
                continue  # known already: the prompt is read again after a preemption
            self._prompt_logprobs.append(self._logprob(row, sequence.token_ids[place]))

    def part(self) -> "list[Generation]":
        """The other samples, once: at the end of the prompt, which is then read for them, too."""
        if self._owes_echo:
            self._owes_echo = False
            self._echo = self._read_echo()  # now, and not on the event loop: it takes a while
        others, self._others = self._others, []
        for other in others:
            other._prompt_logprobs = self._prompt_logprobs
            other._echo, other._n_decoded = self._echo, self._n_decoded
        return others

    def refuse(self, match: float | None) -> Delta:
        """End without an answer, before any token.

        Args:
            match: how well the model found what the prompt asks for: too little.
        """
        return Delta(
            [],
            "",
            "not_found",
            self._index,
            None if self._params.logprobs is None else [],
            match=match,
        )

    def conclude(self, delta: Delta, match: float | None) -> None:
        """Note in the last delta how good the answer is.

        Args:
            delta: the last of this sample.
            match: how well the model found what it looked for.
        """
        delta.match = match
        if self.judge is not None:
            answer = self.sequence.token_ids[self.sequence.n_prompt :]
            delta.verified = self.judge.verify(answer + [self._eos_id] * delta.is_eos)

    def draws(self, draft: Items[int] = ()) -> list[Draw]:
        """How a decoder is to choose the next token, and one after each token of a draft.

        Nothing where it need not: where no token is wanted, or the likeliest one.
        """
        if self._takes_likeliest or not self._params.max_tokens:
            return []
        return self._sampler.draws(draft, [self._banned(n) for n in range(len(draft) + 1)])

    @property
    def is_foreseen(self) -> bool:
        """Whether the step after the next token can be planned before that is known."""
        return self._is_foreseen and self.sequence.n_generated > 0

    def draw_ahead(self) -> list[Draw]:
        """As `draws`, but for the token after the next one, while `is_foreseen`."""
        return [] if self._takes_likeliest else [self._sampler.draw_ahead(self._banned(1))]

    def advance(self, logits: Logits, likeliest: int = -1, chosen: int = -1) -> Delta:
        """Choose the next token.

        Args:
            logits: gives the model's `[V]` after the sequence so far.
            likeliest: their argmax, if it is known already, and they are finite; else -1.
            chosen: what the decoder chose by the first of `draws`; -1 if it did not.

        Raises:
            FloatingPointError: logits that are not numbers.
        """
        if likeliest < 0:
            _check_finite(logits())
        self._begin_answer()
        if not self._params.max_tokens:
            return self._delta([], "", "length", [], [])
        if likeliest >= 0 and self._takes_likeliest:
            token_id = likeliest
        elif chosen >= 0:
            token_id = chosen
            self._sampler.take(chosen)
        else:
            token_id = self._sampler.sample(logits(), self._banned())
        is_told = self._params.logprobs is not None
        return self._take([token_id], [self._logprob(logits(), token_id)] if is_told else [])

    def verify(
        self, draft: Items[int], logits: Logits, likeliest: list[int], chosen: Items[int] = ()
    ) -> tuple[int, Delta]:
        """Choose a token after each token of a draft, as long as the draft is what is chosen.

        Args:
            draft: tokens that may come next, fewer than may still come, and none of them EOS.
            logits: gives `[N + 1, V]`, after the sequence so far, and after each token of the
                draft.
            likeliest: of each of these rows, as for `advance`.
            chosen: by the `draws` for this draft; nothing if there are none.

        Returns:
            How many tokens of the draft are what was chosen, and were needed; all that was chosen.

        Raises:
            FloatingPointError: logits that are not numbers.
        """
        n_right = 0
        if self._follows_likeliest and min(likeliest) >= 0:
            while n_right < len(draft) and likeliest[n_right] == draft[n_right]:
                n_right += 1
            self._begin_answer()
            return n_right, self._take(likeliest[: n_right + 1], [])
        deltas = []
        for row, known in enumerate(likeliest):
            of_row = partial(_row, logits, row)
            deltas.append(self.advance(of_row, known, chosen[row] if chosen else -1))
            if deltas[-1].finish_reason is not None or n_right == len(draft):
                break
            if self.sequence.token_ids[-1] != draft[n_right]:
                break
            n_right += 1
        return n_right, Delta.join(deltas)

    def _begin_answer(self) -> None:
        """Note that there is an answer, and when its latest token came."""
        self.sequence.goes_back_to = None
        now = self.progress.last_token = time.monotonic()
        if self.progress.first_token is None:
            self.progress.first_token = now

    def _take(self, token_ids: list[int], logprobs: list[TokenLogprob]) -> Delta:
        """Go on with tokens: one, or several of which only the last may be the end."""
        sequence, params = self.sequence, self._params
        ends = token_ids[-1] == self._eos_id and not params.ignore_eos
        if ends:
            token_ids = token_ids[:-1]
        sequence.token_ids += token_ids
        new, places = "", []
        push, place = self._decoder.push, self._n_decoded
        for token_id in token_ids:
            places.append(place)
            decoded = push((token_id,))
            place += len(decoded)
            new += decoded
        self._n_decoded = place
        if ends:
            text = self._stop.push(new + self._decoder.flush()) + self._stop.flush()
            ending = self._delta(token_ids, text, "stop", logprobs[:-1], places)
            ending.is_eos, ending.eos_logprob = True, logprobs[-1] if logprobs else None
            return ending
        n_generated = sequence.n_generated
        text = new
        reason: FinishReason | None = None
        if params.stop:
            text = self._stop.push(new, may_end=n_generated >= params.min_tokens)
            reason = "stop" if self._stop.found else None
        if reason is None and n_generated == params.max_tokens:
            # What the decoder has of a character stays there: the rest of it may still be asked
            # for, and then comes with all of it.
            text += self._stop.flush()
            reason = "length"
        return self._delta(token_ids, text, reason, logprobs, places)

    def _banned(self, n_ahead: int = 0) -> int | None:
        """EOS while it would come too early, after so many more tokens; None for no id."""
        params = self._params
        n_generated = self.sequence.n_generated + n_ahead
        is_early = not params.ignore_eos and n_generated < params.min_tokens
        return self._eos_id if is_early else None

    def _delta(
        self,
        token_ids: list[int],
        text: str,
        reason: FinishReason | None,
        logprobs: list[TokenLogprob],
        places: list[int],
    ) -> Delta:
        n_echoed = 0
        if self._echo is not None:
            echo, self._echo = self._echo, None
            n_echoed = len(echo.token_ids)
            token_ids = echo.token_ids + token_ids
            text = echo.text + text
            logprobs = self._echoed_logprobs() + logprobs
            places = echo.places + places
        told = None if self._params.logprobs is None else logprobs
        start = self._n_passed_on
        self._n_passed_on = start + len(text)
        # By position, as this is done for every token and names take longer.
        return Delta(
            token_ids, text, reason, self._index, told, n_echoed, False, None, start, places
        )  # fmt: skip

    def _read_echo(self) -> "_Echo":
        """The prompt as it was given: without the ids that frame it."""
        is_raw = self._params.mode == RAW
        ids = self.sequence.token_ids
        # A framed prompt begins a text of its own; a raw one goes on with what was there.
        decoder = self._tokenizer.stream_decoder(after=ids[: self._n_context] if is_raw else ())
        echo = _Echo()
        for token_id in ids[self._n_context : self.sequence.n_prompt]:
            place = self._n_decoded
            decoded = decoder.push([token_id])
            self._n_decoded += len(decoded)
            echo.text += decoded
            if is_raw or token_id not in self._specials:
                echo.token_ids.append(token_id)
                echo.places.append(place)
        return echo

    def _echoed_logprobs(self) -> list[TokenLogprob]:
        """One for every echoed id. The first of a context has no number: nothing is before it."""
        if self._params.mode != RAW:
            return [p for p in self._prompt_logprobs if p.token_id not in self._specials]
        first = TokenLogprob(self.sequence.token_ids[0], None, ())
        return [first, *self._prompt_logprobs]

    def _logprob(self, logits: NDArray[np.float32], token_id: int) -> TokenLogprob:
        return token_logprob(logits, token_id, self._params.logprobs or 0)


@dataclass
class _Echo:
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    places: list[int] = field(default_factory=list)


def _row(logits: Logits, row: int) -> NDArray[np.float32]:
    found: NDArray[np.float32] = logits()[row]
    return found


def _check_finite(logits: NDArray[np.float32]) -> None:
    if not np.isfinite(logits).all():
        raise FloatingPointError("the model's logits are not finite")
