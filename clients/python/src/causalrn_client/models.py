"""What the server answers with, as typed and immutable values.

Fields that this version does not know are tolerated, so that a newer server can be talked to.
"""

from pydantic import BaseModel, ConfigDict, JsonValue


class Answer(BaseModel):
    """Base of everything that a server answers with."""

    # Strict: a number in quotes is a broken answer, not a number.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Usage(Answer):
    """How many tokens a generation read and wrote.

    Attributes:
        prompt_tokens: Tokens that the model read, those that wrap the prompt included.
        completion_tokens: Tokens that it wrote, of all samples; the end-of-sequence token that
            ends one does not count.
        total_tokens: The sum of both.
        cached_tokens: Tokens of the prompt that the server had read before, for another request.

    In a session, `prompt_tokens` counts what the session held before too, and `cached_tokens` what
    of it was still in the server's memory.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0


class SessionUsage(Answer):
    """What a turn left in its session.

    Attributes:
        id: The session.
        n_tokens: Tokens that it holds after the turn, those that wrap the prompts included.
    """

    id: str
    n_tokens: int


class TopLogprob(Answer):
    """One of the likeliest tokens of its place.

    Attributes:
        token_id: The token.
        logprob: Natural logarithm of its probability.
    """

    token_id: int
    logprob: float


class TokenLogprob(Answer):
    """How likely a token was to the model, before temperature and truncation.

    Attributes:
        token_id: The token.
        logprob: Natural logarithm of its probability; None for the first token of all that the
            model read, which comes before any prediction (in `raw` mode, with `echo`).
        top: The likeliest tokens of its place, the likeliest first; as many as were asked for.
    """

    token_id: int
    logprob: float | None
    top: list[TopLogprob]


class Sample(Answer):
    """One of several answers to a prompt; its attributes are those of a `Generation`.

    Attributes:
        index: Its number, counted from 0.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[TokenLogprob] | None = None


class Generation(Answer):
    """A whole generation; where it has several samples, the first one, and all of them.

    Attributes:
        id: The server's name for it.
        model: The model that wrote it.
        text: What it wrote, up to a stop string.
        token_ids: The same as token ids, those of the stop string included; the special ones only
            with `ignore_eos`.
        finish_reason: `stop` (the model, or a stop string, ended it) or `length` (`max_tokens`);
            `abort` or `error` where the server had to end it.
        usage: Token counts.
        logprobs: One for each of `token_ids`; None where they were not asked for.
        samples: In the order of their `index`; None where no more than one was asked for.
        session: What it left in its session; None where it had none.
    """

    id: str
    model: str
    text: str
    token_ids: list[int]
    finish_reason: str
    usage: Usage
    logprobs: list[TokenLogprob] | None = None
    samples: list[Sample] | None = None
    session: SessionUsage | None = None


class Chunk(Answer):
    """One piece of a streamed generation.

    Attributes:
        id: The generation's id, the same in all of its chunks.
        model: The model that writes it.
        index: The sample that it belongs to, counted from 0.
        text: What is new; never half a character, and sometimes empty.
        token_ids: The token ids that are new; sometimes none.
        finish_reason: Why the sample ended; None in all of its chunks but the last.
        logprobs: One for each of `token_ids`; None where they were not asked for.
        usage: Token counts, of all samples; None in all chunks but the very last.
        session: What it left in its session; None without one, and in all chunks but the very last.
    """

    id: str
    model: str
    index: int = 0
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] | None = None
    usage: Usage | None = None
    session: SessionUsage | None = None


class ServerInfo(Answer):
    """What a server says about itself.

    Fields that are not listed here are kept: see `model_extra`.

    Attributes:
        model: Name of the model that it serves.
        fingerprint: SHA-256 of the model's weights, in hexadecimal.
        version: Version of the server.
        config: The model's configuration.
        tokenizer: Its name and its special ids.
        limits: What a request may ask for at the most.
    """

    model_config = ConfigDict(extra="allow")

    model: str
    fingerprint: str
    version: str
    config: dict[str, JsonValue]
    tokenizer: dict[str, JsonValue]
    limits: dict[str, JsonValue]
