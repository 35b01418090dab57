"""The file that a command writes its results to, once it has them."""

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
        file.unlink()


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write results for people and programs.

    Raises:
        OSError: the file cannot be written.
    """
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
