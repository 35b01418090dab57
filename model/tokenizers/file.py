"""Hugging Face tokenizers: whatever a `tokenizer.json` says."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from causalrn.model.tokenizers.base import SPECIAL_TOKENS, StreamDecoder, lone_surrogate
from causalrn.model.validation import STRICT

_NAME = "tokenizer.json"
_UNFINISHED = "\ufffd"
_MOST_UNFINISHED = 3  # ids of a character that lacks its last, each a byte
_CONTEXT = 8  # ids before a stream, which may decide how its first one is written


class FileParams(BaseModel):
    """Parameters of a tokenizer from a file.

    Attributes:
        path: of the file, relative to the preset or the checkpoint.
        sha256: of its contents, hexadecimal; None to take it as it is.
    """

    model_config = STRICT

    path: str = _NAME
    sha256: str | None = None


class FileTokenizer:
    """The ids of a tokenizer of Hugging Face's library, then BOS, SEP and EOS.

    What special ids the file has of its own are ids like any others: they frame nothing.

    Args:
        text: the contents of the file.

    Raises:
        ValueError: they are not those of such a file, or the library is not installed.
    """

    name: ClassVar[str] = "file"
    Params: ClassVar[type[BaseModel]] = FileParams

    def __init__(self, text: str) -> None:
        self.text = text
        self._library = _load(text)
        vocabulary = self._library.get_vocab(with_added_tokens=True)
        self.bos_id = 1 + max(vocabulary.values(), default=-1)
        self.sep_id, self.eos_id = self.bos_id + 1, self.bos_id + 2
        self.vocab_size = self.bos_id + len(SPECIAL_TOKENS)
        self.longest = max(map(len, vocabulary), default=1)

    @classmethod
    def make(cls, params: FileParams, folder: Path) -> Self:
        """See `Tokenizer.make`."""
        file = folder / params.path
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{file}: is no UTF-8, so no tokenizer") from None
        if params.sha256 not in (None, _sha256(text)):
            raise ValueError(f"{file}: is another tokenizer than that of the model")
        try:
            return cls(text)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    @property
    def params(self) -> BaseModel:
        """See `Tokenizer.params`."""
        return FileParams(sha256=_sha256(self.text))

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`: the file as it was read."""
        partial = folder / f"{_NAME}.partial"
        partial.write_text(self.text, encoding="utf-8")
        partial.replace(folder / _NAME)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. What a text becomes that the file has no ids for, it decides."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise lone_surrogate(error) from None
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        parts = groupby(ids, key=lambda i: i < self.bos_id)
        return "".join(self.decode_content(list(part)) for is_content, part in parts if is_content)

    def decode_content(self, ids: Sequence[int]) -> str:
        """Text of ids none of which is special."""
        text: str = self._library.decode(ids, skip_special_tokens=False)
        return text

    def token(self, token_id: int) -> str:
        """See `Tokenizer.token`. Where texts are equal, or none, it is what the file calls it."""
        return self._tokens[token_id]

    @cached_property
    def _tokens(self) -> list[str]:
        texts = [self.decode_content([i]) for i in range(self.bos_id)]
        counts = dict.fromkeys(SPECIAL_TOKENS, 1)
        for text in texts:
            counts[text] = counts.get(text, 0) + 1
        named = []
        for number, text in enumerate(texts):
            if not text or _UNFINISHED in text or counts[text] > 1:
                text = f"token:{number}:{self._library.id_to_token(number)}"
            named.append(text)
        return [*named, *SPECIAL_TOKENS]

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:
        """See `Tokenizer.stream_decoder`."""
        return _FileStream(self, after)


class _FileStream:
    """Decodes ids together with a few of those before, as each may depend on its neighbours."""

    def __init__(self, tokenizer: FileTokenizer, after: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        content: list[int] = []
        for token_id in after[-_CONTEXT:]:
            content = [*content, token_id] if token_id < tokenizer.bos_id else []
        self._ids, self._n_told = content, len(content)
        if tokenizer.decode_content(content).endswith(_UNFINISHED):
            for n in range(1, min(_MOST_UNFINISHED, len(content)) + 1):
                if not tokenizer.decode_content(content[:-n]).endswith(_UNFINISHED):
                    self._n_told -= n
                    break

    def push(self, ids: Sequence[int]) -> str:
        return "".join([self._pass(i) for i in ids])

    def flush(self) -> str:
        text = self._new()
        self._ids, self._n_told = [], 0
        return text

    def _pass(self, token_id: int) -> str:
        if token_id >= self._tokenizer.bos_id:
            return self.flush()
        self._ids.append(token_id)
        text = self._new()
        if not text or text.endswith(_UNFINISHED):
            return ""
        self._ids = self._ids[self._n_told :]
        self._n_told = len(self._ids)
        return text

    def _new(self) -> str:
        told = self._tokenizer.decode_content(self._ids[: self._n_told])
        return self._tokenizer.decode_content(self._ids)[len(told) :]


def _load(text: str) -> Any:
    try:
        from tokenizers import Tokenizer as Library  # an extra, and slow to import
    except ImportError:
        raise ValueError(
            "needs the package tokenizers: pip install 'causalrn[tokenizers]'"
        ) from None
    try:
        return Library.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"is no tokenizer: {error}") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
