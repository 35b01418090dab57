"""The file that a command writes its results to."""

import json
from pathlib import Path
from typing import Any


def check_writable(file: Path) -> None:
    """Find out before the work whether its results can be written; leaves nothing behind.

    Raises:
        OSError: the file cannot be written.
    """
    is_new = not file.exists()
    file.open("a", encoding="utf-8").close()
    if is_new:
        file.resolve().unlink()  # not a link that leads to it


def as_json(values: dict[str, Any]) -> str:
    """Results as text for people and programs."""
    return json.dumps(values, indent=1) + "\n"


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write results.

    Raises:
        OSError: the file cannot be written.
    """
    file.write_text(as_json(values), encoding="utf-8")
