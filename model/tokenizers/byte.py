"""Bytes as tokens: any text, with 256 ids."""

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel

from causalrn.model.tokenizers.base import SPECIAL_TOKENS, StreamDecoder, lone_surrogate
from causalrn.model.validation import STRICT

_TOKENS: tuple[str, ...] = (
    *(chr(byte) if byte < 0x80 else f"bytes:\\x{byte:02x}" for byte in range(256)),
    *SPECIAL_TOKENS,
)
_MOST_UNFINISHED = 3  # bytes of a character that lacks its last


class ByteParams(BaseModel):
    """There are none."""

    model_config = STRICT


class ByteTokenizer:
    """One id a byte of UTF-8: 0 to 255, then BOS, SEP and EOS."""

    name: ClassVar[str] = "bytes"
    Params: ClassVar[type[BaseModel]] = ByteParams
    vocab_size, bos_id, sep_id, eos_id = 259, 256, 257, 258
    longest = 1
    params = ByteParams()

    @classmethod
    def make(cls, params: ByteParams, folder: Path) -> Self:  # noqa: ARG003
        """See `Tokenizer.make`."""
        return cls()

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`: there are no files."""

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. Only lone surrogates have no UTF-8."""
        try:
            return list(text.encode())
        except UnicodeEncodeError as error:
            raise lone_surrogate(error) from None

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        stream = self.stream_decoder()
        return stream.push(ids) + stream.flush()

    def token(self, token_id: int) -> str:
        """See `Tokenizer.token`."""
        return _TOKENS[token_id]

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:
        """See `Tokenizer.stream_decoder`."""
        return _ByteStream(after)


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
