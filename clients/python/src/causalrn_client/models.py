"""The server's answers, as typed and immutable values.

Unknown fields are ignored, so that the client works with newer servers.
"""

from pydantic import BaseModel, ConfigDict, JsonValue


class Answer(BaseModel):
    """The base of all answers."""

    # Strict: a number in quotes is a broken answer, not a number.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Usage(Answer):
    """How many tokens a generation read and wrote.

    Attributes:
        prompt_tokens: How many tokens the model read, including the special ones around the
            prompt. In a session this includes all that the session held before.
        completion_tokens: How many tokens the model wrote, in all samples together. The
            end-of-sequence token does not count.
        total_tokens: The sum of both.
        cached_tokens: How many of the `prompt_tokens` did not have to be computed, because the
            server still had them in memory from an earlier request.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0


class SessionUsage(Answer):
    """The session after a turn.

    Attributes:
        id: The session's id.
        n_tokens: How many tokens it now holds, including the special ones around the prompts.
    """

    id: str
    n_tokens: int


class TopLogprob(Answer):
    """One of the likeliest tokens at a position.

    Attributes:
        token_id: The token.
        logprob: The natural logarithm of its probability.
    """

    token_id: int
    logprob: float


class TokenLogprob(Answer):
    """How likely the model found a token, before temperature and truncation.

    Attributes:
        token_id: The token.
        logprob: The natural logarithm of its probability. None for the very first token that the
            model read, which nothing predicts (in `raw` mode with `echo`).
        top: As many of the likeliest tokens at this position as were asked for, the likeliest
            first.
    """

    token_id: int
    logprob: float | None
    top: list[TopLogprob]


class Sample(Answer):
    """One of several answers to a prompt. Its other attributes are those of a `Generation`.

    Attributes:
        index: Its number among the samples, from 0.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str
    match: float | None = None
    verified: bool | None = None
    logprobs: list[TokenLogprob] | None = None


class Generation(Answer):
    """A complete answer. If there are several samples, its own attributes are those of the first.

    Attributes:
        id: The id of the generation, which also appears in the server's log.
        model: The name of the model that wrote it.
        text: The text that the model wrote, up to a stop string.
        token_ids: The same as token ids, including those of the stop string. Special tokens are
            included only with `ignore_eos`.
        finish_reason: Why the answer ended: `stop` (by the model or a stop string), `length` (by
            `max_tokens`), or `abort` or `error` (by the server). `not_found` if there is none: the
            model did not find what the prompt asks for, and a session is as if nobody had asked.
        match: How well the model found what it looked for, by its own numbers, from 0 to 1. None if
            it cannot tell.
        verified: Whether the server found that a copy is the prompt, or that a recall is what
            follows the prompt in what the session has read, as far as the recall goes. None if
            there is nothing to compare, as in `raw` mode, or a copy was cut off.
        usage: How many tokens were read and written.
        logprobs: The log-probability of each of `token_ids`; None if not asked for.
        samples: All samples, in the order of their `index`; None if only one was asked for.
        session: The session after this turn; None without a session.
    """

    id: str
    model: str
    text: str
    token_ids: list[int]
    finish_reason: str
    match: float | None = None
    verified: bool | None = None
    usage: Usage
    logprobs: list[TokenLogprob] | None = None
    samples: list[Sample] | None = None
    session: SessionUsage | None = None


class Chunk(Answer):
    """A piece of an answer that is being written.

    Attributes:
        id: The id of the generation, the same in all of its chunks.
        model: The name of the model that writes it.
        index: The number of the sample that the chunk belongs to, from 0.
        text: The new text. Never ends in half a character; can be empty.
        token_ids: The new token ids; can be empty.
        finish_reason: Why the sample ended, in its last chunk; None in all others.
        match: How well the model found what it looked for, in a sample's last chunk; see
            `Generation`.
        verified: Whether the answer was found to be right, in a sample's last chunk; see
            `Generation`.
        logprobs: The log-probability of each of `token_ids`; None if not asked for.
        usage: How many tokens were read and written, in the very last chunk; None in all others.
        session: The session after this turn, in the very last chunk; None in all others, and
            without a session.
    """

    id: str
    model: str
    index: int = 0
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    match: float | None = None
    verified: bool | None = None
    logprobs: list[TokenLogprob] | None = None
    usage: Usage | None = None
    session: SessionUsage | None = None


class ServerInfo(Answer):
    """A model and the server that serves it.

    Fields that are not listed here are kept in `model_extra`.

    Attributes:
        model: The name of the model.
        fingerprint: The SHA-256 of the model's weights, in hexadecimal.
        version: The version of the server.
        config: The configuration of the model.
        tokenizer: The name and the special ids of its tokenizer.
        limits: The most that a request can ask for.
    """

    model_config = ConfigDict(extra="allow")

    model: str
    fingerprint: str
    version: str
    config: dict[str, JsonValue]
    tokenizer: dict[str, JsonValue]
    limits: dict[str, JsonValue]
