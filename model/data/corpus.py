"""Documents as tokens on disk, some of them held out: what a task of texts trains on."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from causalrn.model.data.documents import Format, Piece
from causalrn.model.data.errors import DataError
from causalrn.model.data.survey import Survey, pieces_of
from causalrn.model.progress import Report
from causalrn.model.tokenizers.base import Tokenizer, TokenizerError
from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.model.tokenizers.registry import describe_tokenizer

_PARTS = ("train", "validation")
_ABOUT = "data.json"
_SEED = 0  # of which documents are held out


@dataclass(frozen=True)
class Part:
    """Documents one after the other: BOS, the document, EOS.

    Attributes:
        token_ids: `[n]`, all of them, in a file that is mapped to memory.
        n_bytes: of their texts, as UTF-8.
    """

    token_ids: NDArray[Any]
    n_bytes: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text that a token stands for, on average."""
        return self.n_bytes / len(self.token_ids)


@dataclass(frozen=True)
class Corpus:
    """Tokens to train on, and others that are held out.

    Attributes:
        train, validation: of different documents; of a single one, its beginning and its end.
        n_documents: in both.
        fingerprint: SHA-256 of all tokens, hexadecimal.
    """

    train: Part
    validation: Part
    n_documents: int
    fingerprint: str


def make_corpus(
    folder: Path,
    found: Survey,
    form: Format,
    tokenizer: Tokenizer,
    held_out: float,
    report: Report,
) -> Corpus:
    """Write the tokens of all documents into a folder, or take those that are there.

    Args:
        folder: made if it is not there.
        found: the documents.
        form: how they stand in files.
        tokenizer: makes tokens of them.
        held_out: share of the documents that are for validation, at least one; of a single
            document, the share of its characters. With 1, nothing is trained on.
        report: is told how far this is.

    Raises:
        DataError: a document cannot be tokenized, or changed since it was looked at.
        OSError: the folder cannot be written.
    """
    about = {
        "files": [_signature(file) for file in found.files],
        "format": asdict(form),
        "tokenizer": describe_tokenizer(tokenizer),
        "held_out": held_out,
    }
    corpus = _read(folder, about)
    if corpus is None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _ABOUT).unlink(missing_ok=True)
        _write(folder, about, found, form, tokenizer, held_out, report)
        corpus = _read(folder, about)
    assert corpus is not None
    return corpus


def _signature(file: Path) -> list[Any]:
    status = file.stat()
    return [str(file.absolute()), status.st_size, status.st_mtime_ns]


def _read(folder: Path, about: dict[str, Any]) -> Corpus | None:
    """What was written of the same data."""
    try:
        written = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if written.get("about") != about:
        return None
    train, validation = (
        Part(_mapped(folder / f"{name}.bin", written["dtype"]), written["n_bytes"][name])
        for name in _PARTS
    )
    return Corpus(train, validation, written["n_documents"], written["fingerprint"])


def _mapped(file: Path, dtype: str) -> NDArray[Any]:
    if not file.stat().st_size:  # which cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(file, dtype, "r")


def _write(
    folder: Path,
    about: dict[str, Any],
    found: Survey,
    form: Format,
    tokenizer: Tokenizer,
    held_out: float,
    report: Report,
) -> None:
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    n_bytes, digest = dict.fromkeys(_PARTS, 0), hashlib.sha256()
    with ExitStack() as opened:
        files: dict[str, BinaryIO] = {
            name: opened.enter_context((folder / f"{name}.bin").open("wb")) for name in _PARTS
        }
        pieces = pieces_of(found.files, form, report, "making tokens")
        for part, text, begins, ends in _dealt(pieces, found, held_out):
            encoded = text.encode()
            if isinstance(tokenizer, ByteTokenizer):  # whose ids need not be numbers of Python
                content = np.frombuffer(encoded, np.uint8).astype(dtype)
            else:
                content = np.array(_encode(tokenizer, text), dtype)
            opening, closing = [tokenizer.bos_id] * begins, [tokenizer.eos_id] * ends
            data = np.concatenate([opening, content, closing]).astype(dtype).tobytes()
            files[part].write(data)
            n_bytes[part] += len(encoded)
            digest.update(part.encode() + data)
    values = {
        "about": about,
        "dtype": np.dtype(dtype).name,
        "n_documents": found.n_documents,
        "n_bytes": n_bytes,
        "fingerprint": digest.hexdigest(),
    }
    partial = folder / f"{_ABOUT}.partial"
    partial.write_text(json.dumps(values) + "\n", encoding="utf-8")
    partial.replace(folder / _ABOUT)


def _dealt(
    pieces: Iterator[Piece], found: Survey, held_out: float
) -> Iterator[tuple[str, str, bool, bool]]:
    """Which part each piece belongs to, its text, and whether a document begins and ends there."""
    train, validation = _PARTS
    n, begins, number, place = found.n_documents, True, 0, 0
    n_chosen = max(1, round(held_out * n))
    chosen = set(np.random.default_rng(_SEED).choice(n, n_chosen, replace=False).tolist())
    border = found.n_characters - max(1, round(held_out * found.n_characters))
    for piece in pieces:
        if number == n:
            raise DataError(_CHANGED)
        text, ends = piece.text, piece.is_last
        if n == 1:
            head, tail = text[: max(0, border - place)], text[max(0, border - place) :]
            if head:
                yield train, head, begins, ends and not tail
            if tail:
                yield validation, tail, begins and not head, ends
        else:
            yield validation if number in chosen else train, text, begins, ends
        place += len(text)
        number += ends
        begins = ends
    if place != found.n_characters:
        raise DataError(_CHANGED)


_CHANGED = "the data changed while it was read"


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return tokenizer.encode(text)
    except TokenizerError as error:
        near = text[max(0, error.position - 20) : error.position + 20]
        raise DataError(f"there is no token for a part of the data, {near!r}: {error}") from None
