"""Characters as tokens: those of an alphabet, such as the paper's 26 letters."""

import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, Field, field_validator

from causalrn.model.tokenizers.base import SPECIAL_TOKENS, StreamDecoder, TokenizerError
from causalrn.model.validation import STRICT

_SHOWN = 40  # characters of an alphabet that an error names
_N_SPECIAL = len(SPECIAL_TOKENS)


class AlphabetParams(BaseModel):
    """Parameters of an alphabet.

    Attributes:
        symbols: its characters, all different, in the order of their ids.
    """

    model_config = STRICT

    symbols: str = Field(min_length=1)

    @field_validator("symbols")
    @classmethod
    def _check_symbols(cls, symbols: str) -> str:
        for place, symbol in enumerate(symbols):
            if symbol in symbols[:place]:
                raise ValueError(f"character {symbol!r} is there twice")
        return symbols


class AlphabetTokenizer:
    """One id a character: BOS 0, SEP 1, EOS 2, then the characters of the alphabet.

    Args:
        symbols: these characters.
    """

    name: ClassVar[str] = "alphabet"
    Params: ClassVar[type[BaseModel]] = AlphabetParams
    bos_id, sep_id, eos_id = range(_N_SPECIAL)
    longest = 1

    def __init__(self, symbols: str) -> None:
        self.symbols = symbols
        self.vocab_size = _N_SPECIAL + len(symbols)
        self._ids = {symbol: number for number, symbol in enumerate(symbols, _N_SPECIAL)}
        self._tokens: tuple[str, ...] = (*SPECIAL_TOKENS, *symbols)

    @classmethod
    def make(cls, params: AlphabetParams, folder: Path) -> Self:  # noqa: ARG003
        """See `Tokenizer.make`."""
        return cls(params.symbols)

    @property
    def params(self) -> BaseModel:
        """See `Tokenizer.params`."""
        return AlphabetParams(symbols=self.symbols)

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`: there are no files."""

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. Only the alphabet's characters have ids."""
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            position = next(n for n, one in enumerate(text) if one not in self._ids)
        known = self.symbols if len(self.symbols) <= _SHOWN else f"{self.symbols[:_SHOWN]}…"
        raise TokenizerError(
            f"character {text[position]!r} at position {position} is not one of the "
            f"{len(self.symbols)} characters that this model knows: {known}",
            position,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return "".join(self._tokens[i] for i in ids if _N_SPECIAL <= i < self.vocab_size)

    def token(self, token_id: int) -> str:
        """See `Tokenizer.token`."""
        return self._tokens[token_id]

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:  # noqa: ARG002
        """See `Tokenizer.stream_decoder`."""
        return _AlphabetStream(self)


class _AlphabetStream:
    def __init__(self, tokenizer: AlphabetTokenizer) -> None:
        self.push = tokenizer.decode

    def flush(self) -> str:
        return ""


class LetterParams(BaseModel):
    """There are none."""

    model_config = STRICT


class LetterTokenizer(AlphabetTokenizer):
    """The paper's alphabet: the letters a to z, as ids 3 to 28."""

    name: ClassVar[str] = "letters"
    Params: ClassVar[type[BaseModel]] = LetterParams

    def __init__(self) -> None:
        super().__init__(string.ascii_lowercase)

    @classmethod
    def make(cls, params: BaseModel, folder: Path) -> Self:  # noqa: ARG003
        """See `Tokenizer.make`."""
        return cls()

    @property
    def params(self) -> BaseModel:
        """See `Tokenizer.params`."""
        return LetterParams()


def learn(texts: Iterable[str]) -> str:
    """The characters that occur in some texts, in the order of their code points."""
    found: set[str] = set()
    for text in texts:
        found.update(text)
    return "".join(sorted(found))
