"""What the server answers with, as typed and immutable values.

Fields that this version does not know are tolerated, so that a newer server can be talked to.
"""

from pydantic import BaseModel, ConfigDict, JsonValue


class _Answer(BaseModel):
    # Strict: a number in quotes is a broken answer, not a number.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Usage(_Answer):
    """How many tokens a generation read and wrote.

    Attributes:
        prompt_tokens: Tokens that the model read, those that wrap the prompt included.
        completion_tokens: Tokens that it wrote; the end-of-sequence token does not count.
        total_tokens: The sum of both.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Generation(_Answer):
    """A whole generation.

    Attributes:
        id: The server's name for it.
        model: The model that wrote it.
        text: What it wrote.
        token_ids: The same as token ids, special ones left out.
        finish_reason: `stop` (the model, or a stop string, ended it) or `length` (`max_tokens`);
            `abort` or `error` where the server had to end it.
        usage: Token counts.
    """

    id: str
    model: str
    text: str
    token_ids: list[int]
    finish_reason: str
    usage: Usage


class Chunk(_Answer):
    """One piece of a streamed generation.

    Attributes:
        id: The generation's id, the same in all of its chunks.
        model: The model that writes it.
        text: What is new; never half a character, and sometimes empty.
        token_ids: The token ids that are new; sometimes none.
        finish_reason: Why the generation ended; None in all chunks but the last.
        usage: Token counts; None in all chunks but the last.
    """

    id: str
    model: str
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    usage: Usage | None = None


class ServerInfo(_Answer):
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
