"""A file that gets its name only once it is complete."""

import contextlib
import errno
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from causalrn_client.errors import InvalidRequestError


class PartialFile:
    """Writes a file under a temporary name in the folder where it is to end up.

    In its `with` block, `open` begins the file. `put_in_place` then renames it, which replaces any
    file of that name in one step. Leaving the block without that removes it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Chooses the temporary name, without writing anything.

        Raises:
            InvalidRequestError: It is not a path.
            OSError: The path is that of a folder.
        """
        try:
            self._path = Path(path)
        except TypeError as error:
            raise InvalidRequestError(f"not the path of a file: {path!r}") from error
        if self._path.is_dir():  # find out now, not after all the work
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._partial = self._path.with_name(f".causalrn-{secrets.token_hex(8)}.partial")
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Takes charge of the file, without beginning it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was reported already
            self._opened.close()
        self._partial.unlink(missing_ok=True)

    def open(self) -> BinaryIO:
        """Begins the file, and returns it for writing.

        Not when the block is entered, because an interrupt between that and the block's first step
        would leave the file behind.

        Raises:
            OSError: There is no such folder, or it does not allow writing.
        """
        self._file = self._opened.enter_context(self._partial.open("xb"))
        return self._file

    def put_in_place(self) -> Path:
        """Gives the complete file its name, and returns its path.

        Raises:
            OSError: It cannot be written to the end, or not be renamed.
        """
        self._file.flush()
        os.fsync(self._file.fileno())  # otherwise a crash could leave an empty file
        self._file.close()
        return self._partial.replace(self._path)
