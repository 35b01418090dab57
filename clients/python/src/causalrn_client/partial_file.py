"""A file that has its name only once it is complete."""

import contextlib
import errno
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self


class PartialFile:
    """Written in the folder of the file that it is to become, under a name of its own.

    A context manager, which removes it unless it was put in place. Until then, in one moment, it
    replaces what had the name before, that stays as it was.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the file; writes nothing yet.

        Raises:
            OSError: The path is a folder's.
        """
        self._path = Path(path)
        if self._path.is_dir():  # now, and not after all the work
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._partial = self._path.with_name(f".causalrn-{secrets.token_hex(8)}.partial")

    def __enter__(self) -> Self:
        """Opens `file` for writing.

        Raises:
            OSError: There is no such folder, or nothing can be written there.
        """
        self.file = self._partial.open("xb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk, which was told already
            self.file.close()
        self._partial.unlink(missing_ok=True)

    def put_in_place(self) -> Path:
        """Gives the complete file its name, and returns that.

        Raises:
            OSError: It cannot be written to the end, or not get the name.
        """
        self.file.flush()
        os.fsync(self.file.fileno())  # or a crash could leave the name with nothing behind it
        self.file.close()
        return self._partial.replace(self._path)
