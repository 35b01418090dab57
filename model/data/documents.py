"""The documents in files of a user: texts, JSON lines, and both of them compressed."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from causalrn.model.data.errors import DataError

JSON_LINES = frozenset({".jsonl", ".ndjson"})
"""Endings of files that hold a JSON object in every line."""

_CHUNK = 2**20  # bytes that are read at a time


@dataclass(frozen=True)
class Format:
    """How documents stand in files.

    Attributes:
        field: of the objects in JSON lines, the one whose string is a document.
        separator: a line that separates the documents of a text file, such as `<|endoftext|>`; an
            empty one means blank lines. None where each text file is one document.
    """

    field: str = "text"
    separator: str | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a document, so that no document need be in memory as a whole.

    Attributes:
        text: some of it, about a million characters at most.
        is_last: whether the document ends here.
    """

    text: str
    is_last: bool


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and all in the folders that are, in order; hidden ones are not.

    Raises:
        DataError: there is no such file, or none in a folder.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not path.is_dir():
            found.append(path)
            continue
        within = [file for file in sorted(path.rglob("*")) if file.is_file()]
        visible = [
            file
            for file in within
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not visible:
            raise DataError(f"{path}: there is no file in this folder")
        found += visible
    return found


def read_pieces(file: Path, form: Format) -> Iterator[Piece]:
    """The documents of a file, piece by piece. Documents without a character are left out.

    Raises:
        DataError: it cannot be read, is no UTF-8, or a line is not what it should be.
    """
    name = file.with_suffix("") if file.suffix == ".gz" else file
    if name.suffix in JSON_LINES:
        yield from _of_json_lines(read_lines(file), file, form.field)
    elif form.separator is None:
        yield from _of_text(_chunks(file))
    else:
        yield from _of_separated(read_lines(file), form.separator)


def read_lines(file: Path) -> Iterator[str]:
    """The lines of a file with their ends, compressed or not.

    Raises:
        DataError: it cannot be read, or is no UTF-8.
    """
    open_line: list[str] = []
    for text in _chunks(file):
        *whole, rest = text.split("\n")
        if whole:
            yield "".join([*open_line, whole[0], "\n"])
            yield from (line + "\n" for line in whole[1:])
            open_line = []
        open_line.append(rest)
    if last := "".join(open_line):
        yield last


def _chunks(file: Path) -> Iterator[str]:
    """The text of a file, about a million characters at a time."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    n_lines = 1
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as opened:
            data = b"-"
            while data:
                data = opened.read(_CHUNK)
                text = decoder.decode(data, final=not data)
                n_lines += text.count("\n")
                if text:
                    yield text
    except UnicodeDecodeError as error:
        before, byte = bytes(error.object)[: error.start], bytes(error.object)[error.start]
        line = n_lines + before.count(b"\n")
        raise DataError(f"{file}, line {line}: not UTF-8: byte 0x{byte:02x}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: not gzip, or cut off: {error}") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None


def _of_text(texts: Iterator[str]) -> Iterator[Piece]:
    """One document."""
    held = ""
    for text in texts:
        if held:
            yield Piece(held, is_last=False)
        held = text
    if held:
        yield Piece(held, is_last=True)


def _of_separated(lines: Iterator[str], separator: str) -> Iterator[Piece]:
    held: list[str] = []
    size = 0
    is_begun = False
    for line in lines:
        if line.rstrip("\r\n") == separator or (not separator and not line.strip()):
            if held or is_begun:
                yield Piece("".join(held), is_last=True)
            held, size, is_begun = [], 0, False
            continue
        if size > _CHUNK:
            yield Piece("".join(held), is_last=False)
            held, size, is_begun = [], 0, True
        held.append(line)
        size += len(line)
    if held or is_begun:
        yield Piece("".join(held), is_last=True)


def _of_json_lines(lines: Iterator[str], file: Path, field: str) -> Iterator[Piece]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            value = json.loads(line)
        except (RecursionError, ValueError) as error:
            raise DataError(f"{where}: not JSON: {error}") from None
        if not isinstance(value, dict):
            raise DataError(f"{where}: must be a JSON object with the field {field!r}")
        if field not in value:
            known = ", ".join(map(repr, value)) or "none"
            raise DataError(f"{where}: there is no field {field!r}; there are {known}; see --field")
        text = value[field]
        if not isinstance(text, str):
            raise DataError(f"{where}: the field {field!r} must be a string, got {text!r:.40}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{where}: the field {field!r} holds a lone surrogate") from None
        if text:
            yield Piece(text, is_last=True)
