"""The synchronous client is what `unasync.py` makes of the asynchronous one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3] / "clients" / "python"
WRITTEN = sorted((PROJECT / "src" / "causalrn_client" / "_sync").glob("*.py"))


def test_the_synchronous_client_is_up_to_date() -> None:
    command = [sys.executable, str(PROJECT / "unasync.py"), "--check"]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", WRITTEN, ids=[path.stem for path in WRITTEN])
def test_nothing_asynchronous_is_left(path: Path) -> None:
    text = path.read_text("utf-8")
    kinds = {type(node).__name__ for node in ast.walk(ast.parse(text))}
    assert not kinds & {"AsyncFor", "AsyncFunctionDef", "AsyncWith", "Await"}
    words = text.replace("asyncio", "").replace("_async/", "").replace("unasync", "")
    assert "async" not in words.lower()
    assert "await" not in words
