"""What docs/openai.md shows is what happens."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
SHOWN = re.findall(r"```(sh|python)\n(.*?)```\n\n```text\n(.*?)```", DOCUMENT, re.DOTALL)


def _same_each_time(output: str) -> Any:
    """An output without the id and the time of an answer."""
    return json.loads(output) | {"id": "", "created": 0} if output.startswith("{") else output


def test_every_example_has_its_output() -> None:
    assert len(SHOWN) == len(re.findall("```(?:sh|python)\n", DOCUMENT)) == 7


@pytest.mark.parametrize(("language", "example", "output"), SHOWN)
def test_an_example_prints_what_is_shown(
    server_url: str, language: str, example: str, output: str
) -> None:
    assert ADDRESS in example
    program = ["bash", "-euc"] if language == "sh" else [sys.executable, "-W", "error", "-c"]
    done = subprocess.run(
        [*program, example.replace(ADDRESS, server_url)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert _same_each_time(done.stdout) == _same_each_time(output)
