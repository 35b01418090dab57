"""A first look at all data, so that what is wrong with it is told before training starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from causalrn.model.data.documents import Format, Piece, find_files, read_lines, read_pieces
from causalrn.model.data.errors import DataError
from causalrn.model.progress import Report


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        files: in the order in which they are read.
        n_documents, n_characters: in all of them together.
        symbols: the characters that occur, in the order of their code points.
    """

    files: list[Path]
    n_documents: int
    n_characters: int
    symbols: str


def survey(paths: Sequence[Path], form: Format, report: Report) -> Survey:
    """Look at all data.

    Args:
        paths: files and folders.
        form: how documents stand in them.
        report: is told how far this is.

    Raises:
        DataError: something of it cannot be used, or there is nothing.
    """
    files = find_files(paths)
    n_documents, n_characters, symbols = 0, 0, set[str]()
    for piece in pieces_of(files, form, report, "looking at the data"):
        symbols.update(piece.text)
        n_documents += piece.is_last
        n_characters += len(piece.text)
    if n_characters < 2:
        raise DataError(f"{', '.join(map(str, paths))}: there is no text")
    return Survey(files, n_documents, n_characters, "".join(sorted(symbols)))


def pieces_of(files: Sequence[Path], form: Format, report: Report, doing: str) -> Iterator[Piece]:
    """The pieces of all documents of several files, in order.

    Args:
        files: of text.
        form: how documents stand in them.
        report: is told how far this is, as a share of the files' bytes.
        doing: what it is told that this is done for.

    Raises:
        DataError: a file is not what it should be.
    """
    sizes = [file.stat().st_size for file in files]
    total, before = max(1, sum(sizes)), 0
    for file, size in zip(files, sizes, strict=True):
        n_read = 0
        for piece in read_pieces(file, form):
            yield piece
            n_read += len(piece.text)
            report(doing, (before + min(n_read, size)) / total)
        before += size
    report(doing, 1.0)


def check_symbols(found: Survey, symbols: str) -> None:
    """Return if all characters of the data are among some symbols.

    Raises:
        DataError: one is not; names it, and where it is if it stands there as it is.
    """
    others = {*found.symbols} - {*symbols}
    if not others:
        return
    for file in found.files:
        for number, line in enumerate(read_lines(file), 1):
            if here := others & {*line}:
                raise _unknown(min(here), f"{file}, line {number}: ")
    raise _unknown(min(others), "")  # an escape of JSON stands for it


def _unknown(symbol: str, where: str) -> DataError:
    return DataError(
        f"{where}the data has the character {symbol!r}, which is not in the alphabet; add it to "
        "--alphabet, or leave that out for all characters of the data"
    )
