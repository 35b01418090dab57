"""Text to token ids and back: bytes of any UTF-8, or the paper's 26 letters."""

import codecs
import string
from collections.abc import Sequence
from typing import Protocol


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
        name: what presets and checkpoints call it.
        vocab_size: number of ids, special ones included.
        bos_id, sep_id, eos_id: the special ids; see `model.config.ModelConfig`.
    """

    name: str
    vocab_size: int
    bos_id: int
    sep_id: int
    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Content ids of a text: at least one a character, at most one a byte of its UTF-8.

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


_SPECIAL_TOKENS = ("<bos>", "<sep>", "<eos>")
_BYTE_TOKENS: tuple[str, ...] = (
    *(chr(byte) if byte < 0x80 else f"bytes:\\x{byte:02x}" for byte in range(256)),
    *_SPECIAL_TOKENS,
)
_LETTER_TOKENS: tuple[str, ...] = (*_SPECIAL_TOKENS, *string.ascii_lowercase)


class ByteTokenizer:
    """One id a byte of UTF-8: 0 to 255, then BOS, SEP and EOS."""

    name = "bytes"
    vocab_size, bos_id, sep_id, eos_id = 259, 256, 257, 258

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. Only lone surrogates have no UTF-8."""
        try:
            return list(text.encode())
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {text[error.start]!r} at position {error.start} is a lone surrogate, "
                "which UTF-8 cannot represent",
                error.start,
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        stream = self.stream_decoder()
        return stream.push(ids) + stream.flush()

    def token(self, token_id: int) -> str:
        """See `Tokenizer.token`."""
        return _BYTE_TOKENS[token_id]

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:
        """See `Tokenizer.stream_decoder`."""
        return _ByteStream(after)


_MOST_UNFINISHED = 3  # bytes of a character that lacks its last


class _ByteStream:
    def __init__(self, after: Sequence[int]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.push(after[-_MOST_UNFINISHED:])

    def push(self, ids: Sequence[int]) -> str:
        try:
            return self._decoder.decode(bytes(ids))
        except ValueError:  # there are special ids, which are no bytes
            return "".join([self._pass(i) for i in ids])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)

    def _pass(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id])) if token_id < 256 else self.flush()


class LetterTokenizer:
    """The paper's alphabet: BOS 0, SEP 1, EOS 2, then a to z as 3 to 28."""

    name = "letters"
    vocab_size, bos_id, sep_id, eos_id = 29, 0, 1, 2

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. Only the letters a to z have ids."""
        for position, character in enumerate(text):
            if not "a" <= character <= "z":
                raise TokenizerError(
                    f"character {character!r} at position {position} is not one of the letters "
                    "a to z that this model knows",
                    position,
                )
        return [ord(character) - ord("a") + 3 for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return "".join(chr(i - 3 + ord("a")) for i in ids if 3 <= i < self.vocab_size)

    def token(self, token_id: int) -> str:
        """See `Tokenizer.token`."""
        return _LETTER_TOKENS[token_id]

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:  # noqa: ARG002
        """See `Tokenizer.stream_decoder`."""
        return _LetterStream(self)


class _LetterStream:
    def __init__(self, tokenizer: LetterTokenizer) -> None:
        self.push = tokenizer.decode

    def flush(self) -> str:
        return ""


TOKENIZERS: dict[str, type[ByteTokenizer] | type[LetterTokenizer]] = {
    ByteTokenizer.name: ByteTokenizer,
    LetterTokenizer.name: LetterTokenizer,
}
