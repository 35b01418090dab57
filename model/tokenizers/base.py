"""What a tokenizer is: text to token ids and back, also where ids come one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel

BOS, SEP, EOS = SPECIAL_TOKENS = ("<bos>", "<sep>", "<eos>")
"""What special ids are called where text is expected."""


class TokenizerError(ValueError):
    """Text that a tokenizer cannot take. The message names the character and its position.

    Attributes:
        position: index of the offending character in the text.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class StreamDecoder(Protocol):
    """Turns token ids into text as they come.

    A special id ends a character, as does the end of the text: what it leaves unfinished becomes
    U+FFFD.
    """

    def push(self, ids: Sequence[int]) -> str:
        """Text that is certain after these ids; never half a character."""

    def flush(self) -> str:
        """What is left at the end of the text; an unfinished character becomes U+FFFD."""


class Tokenizer(Protocol):
    """Turns text into token ids and back.

    Content ids are those that `encode` makes; the special ids frame them.

    Attributes:
        name: what presets and checkpoints call this kind of tokenizer.
        Params: what one of this kind is made from, a frozen pydantic model.
        vocab_size: number of ids, special ones included.
        bos_id, sep_id, eos_id: the special ids; see `causalrn.model.config.ModelConfig`.
        longest: most characters of a content id.
    """

    name: ClassVar[str]
    Params: ClassVar[type[BaseModel]]
    vocab_size: int
    bos_id: int
    sep_id: int
    eos_id: int
    longest: int

    @classmethod
    def make(cls, params: Any, folder: Path) -> Self:
        """Make one from its parameters.

        Args:
            params: an instance of `Params`.
            folder: that its files, if it has any, are relative to.

        Raises:
            ValueError: a file cannot be read, or is not what it should be.
        """

    @property
    def params(self) -> BaseModel:
        """The parameters that make the same tokenizer from the folder of a checkpoint."""

    def save(self, folder: Path) -> None:
        """Write the files that it needs besides its parameters into the folder of a checkpoint."""

    def encode(self, text: str) -> list[int]:
        """Content ids of a text: about as many as bytes of its UTF-8, or fewer.

        Raises:
            TokenizerError: for a character that has no ids; names it and its position.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids. Special ids have none; invalid UTF-8 becomes U+FFFD."""

    def token(self, token_id: int) -> str:
        """A token by itself, different for every id: its text, its byte, or `<eos>` and such."""

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for one stream of ids.

        Args:
            after: ids that come before the stream. If they end in the middle of a character, that
                character is the first of the stream's text.
        """


def special_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """The special ids with the names that stand for them where text is expected."""
    ids = (tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id)
    return {token_id: tokenizer.token(token_id) for token_id in ids}


def content_ids(tokenizer: Tokenizer) -> range:
    """The ids that `encode` may make, which have the special ones before or behind them."""
    n_special = len(SPECIAL_TOKENS)
    if tokenizer.bos_id == 0:
        return range(n_special, tokenizer.vocab_size)
    return range(tokenizer.vocab_size - n_special)


def lone_surrogate(error: UnicodeEncodeError) -> TokenizerError:
    """The error for a text that no UTF-8 can represent."""
    return TokenizerError(
        f"character {error.object[error.start]!r} at position {error.start} is a lone surrogate, "
        "which UTF-8 cannot represent",
        error.start,
    )
