"""Which checkpoints there are to load, by their names."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class CheckpointFolders:
    """Finds the folders of checkpoints: those of the settings, and those in the model folder.

    A client's name of a checkpoint is only looked up among these. It never becomes part of a path.

    Args:
        configured: the checkpoints of the settings, the default one first.
        model_folder: where more of them may lie.
    """

    def __init__(self, configured: Iterable[Path], model_folder: Path) -> None:
        self.configured = {path.absolute().name: path for path in configured}
        self._model_folder = model_folder

    def find(self) -> dict[str, Path]:
        """All of them. Reads the model folder, so it blocks."""
        found = {}
        try:
            folder = self._model_folder.resolve()
            found = {path.name: path for path in folder.iterdir() if _is_checkpoint(path, folder)}
        except OSError as error:
            logger.warning("the model folder cannot be read: %s", error)
        return found | self.configured


def _is_checkpoint(path: Path, folder: Path) -> bool:
    """Whether a path looks like a checkpoint. A link must end in the same folder."""
    try:
        is_inside = path.resolve().parent == folder
        return is_inside and bool(_NAME.fullmatch(path.name)) and (path / "config.json").is_file()
    except (OSError, RuntimeError):  # unreadable, or a loop of links
        return False
