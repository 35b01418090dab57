"""One turn of a session: a prompt, and the answer to it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from causalrn.answer import Answer, FinishReason
from causalrn.model.checkpoint import Checkpoint
from causalrn.model.runner import Runner
from causalrn.model.sampling import Sampler, SamplingParams
from causalrn.model.validation import STRICT, unknown, validate
from causalrn.server.engine.judge import Judge
from causalrn.server.engine.modes import (
    RAW,
    answer_length,
    choose_mode,
    frame,
    needs_context,
    needs_room,
)
from causalrn.server.engine.stop_strings import StopStrings


def _strings(value: Any) -> Any:
    """One string or several, as a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class Options(BaseModel):
    """What is asked for besides the prompt; how tokens are chosen is in `SamplingParams`.

    Attributes:
        mode: what the prompt asks for; None for the model's first mode.
        max_tokens: of the answer; None for as many as the mode may need.
        stop: strings that end the answer.
        allow_partial: whether an answer is wanted however little the model found.
    """

    model_config = STRICT

    mode: str | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_strings)] = ()
    allow_partial: bool = False


class Turn:
    """A turn that is about to be taken.

    Args:
        checkpoint: the model.
        runner: holds what the session has read, as its only sequence.
        log: of the session, which the turn adds to.
        prompt: text, or token ids.
        given: fields of `Options` and of `SamplingParams`.

    Raises:
        TokenizerError: a character has no token.
        InvalidRequestError: the model has no such mode.
        InvalidValueError: an option is unknown, or its value wrong.
        ValueError: an id is out of range, there is no prompt, or no room.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        runner: Runner,
        log: list[int],
        prompt: str | Sequence[int],
        given: dict[str, Any],
    ) -> None:
        fields = SamplingParams.model_fields
        if others := given.keys() - fields.keys() - Options.model_fields.keys():
            raise unknown((min(others),), [*Options.model_fields, *fields])
        sampling = validate(SamplingParams, {k: v for k, v in given.items() if k in fields})
        options = validate(Options, {k: v for k, v in given.items() if k not in fields})
        mode = choose_mode(checkpoint, options.mode)
        ids = checkpoint.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        vocab_size = checkpoint.config.vocab_size
        if not all(0 <= token_id < vocab_size for token_id in ids):
            raise ValueError(f"token ids must lie between 0 and {vocab_size - 1}")
        self._prompt = frame(checkpoint, ids, mode)
        if not self._prompt:
            raise ValueError("the prompt is empty")
        if needs_context(checkpoint, mode) and not log:
            raise ValueError(f"{mode!r} needs a session that has read something before")
        room = checkpoint.config.max_seq_len - len(log) - len(self._prompt)
        wanted = answer_length(checkpoint, mode, len(ids), len(log))
        fitting = wanted if needs_room(checkpoint, mode) else min(wanted, room)
        self._most = fitting if options.max_tokens is None else options.max_tokens
        if self._most > room or room < 0:
            raise ValueError(
                f"{checkpoint.name} holds {checkpoint.config.max_seq_len} tokens: {len(log)} are "
                f"there, the prompt has {len(self._prompt)}, and the answer may have {self._most}"
            )
        self._judge = None
        if mode != RAW:
            task = checkpoint.task
            self._judge = Judge(task, mode, ids, tuple(log), options.allow_partial)
        self._checkpoint, self._runner, self._log = checkpoint, runner, log
        self._sampler = Sampler(sampling, prompt=self._prompt)
        self._stop = StopStrings(options.stop)
        self._ids: list[int] = []
        self._finish_reason: FinishReason = "length"

    def run(self) -> Iterator[str]:
        """Take the turn; yields the text of the answer piece by piece."""
        runner, eos_id = self._runner, self._checkpoint.config.eos_id
        unread = [*self._log[runner.length(0) :], *self._prompt]
        self._log += self._prompt
        decoder = self._checkpoint.tokenizer.stream_decoder(after=self._prompt)
        logits = runner.read({0: unread})[0]
        judge = self._judge
        if judge is not None and judge.may_refuse and judge.is_too_low(runner.match(0)):
            self._finish_reason = "not_found"
            return
        while len(self._ids) < self._most:
            token_id = self._sampler.sample(logits)
            self._log.append(token_id)
            if token_id == eos_id:
                self._finish_reason = "stop"
                break
            self._ids.append(token_id)
            if text := self._stop.push(decoder.push([token_id])):
                yield text
            if self._stop.found:
                self._finish_reason = "stop"
                return
            if len(self._ids) < self._most:
                logits = runner.read({0: [token_id]})[0]
        if text := self._stop.push(decoder.flush()) + self._stop.flush():
            yield text

    def answer(self, text: str) -> Answer:
        """What came of it, once all of `run` was taken.

        Args:
            text: that `run` gave.
        """
        verified = None
        if self._judge is not None and self._finish_reason != "not_found":
            is_ended = self._log[-1:] == [self._checkpoint.config.eos_id]
            eos = [self._checkpoint.config.eos_id] * is_ended
            verified = self._judge.verify([*self._ids, *eos])
        match = self._runner.match(0)
        return Answer(text, self._ids, self._finish_reason, match, verified)
