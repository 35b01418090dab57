"""A file that gets its name only once it is complete."""

import contextlib
import errno
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from causalrn_client.errors import InvalidRequestError


class PartialFile:
    """Writes a file under a temporary name in the folder where it is to end up.

    `put_in_place` then renames it, which replaces any file of that name in one step. Leaving the
    `with` block without that removes it.
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

    def __enter__(self) -> Self:
        """Opens `file` for writing.

        Raises:
            OSError: There is no such folder, or it does not allow writing.
        """
        self.file = self._partial.open("xb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was reported already
            self.file.close()
        self._partial.unlink(missing_ok=True)

    def put_in_place(self) -> Path:
        """Gives the complete file its name, and returns its path.

        Raises:
            OSError: It cannot be written to the end, or not be renamed.
        """
        self.file.flush()
        os.fsync(self.file.fileno())  # otherwise a crash could leave an empty file
        self.file.close()
        return self._partial.replace(self._path)
