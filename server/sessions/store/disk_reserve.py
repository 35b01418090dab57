"""Room on the disk that is kept for the time when there is no other left."""

import contextlib
import os
from pathlib import Path


class DiskReserve:
    """A file that is there to be removed: deleting from a database needs room for its log.

    Args:
        path: of the file.
        n_bytes: how large it is.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path = path
        self._n_bytes = n_bytes

    def keep(self) -> None:
        """Make the file if it is missing and there is room for it; nothing happens otherwise."""
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self._n_bytes)
            except OSError:
                self._path.unlink()
            finally:
                os.close(file)

    def spend(self) -> bool:
        """Remove the file; whether there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
