"""Where the checkpoints are that come with the project."""

from pathlib import Path

DEFAULT = "exact-bytes"
"""The one that is taken where none is named."""

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
"""Beside this package, in a clone as in a wheel, which has some of them."""


def shipped_names() -> list[str]:
    """The names of all of them."""
    return sorted(file.parent.name for file in CHECKPOINTS.glob("*/config.json"))


def checkpoint_folder(name: str | Path) -> Path:
    """The folder that a user means, which is named, or that of a checkpoint of the project."""
    path = Path(name)
    return CHECKPOINTS / path if str(name) in shipped_names() and not path.exists() else path
