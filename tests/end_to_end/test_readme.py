"""What the README shows is what happens."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import documents, render

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
# The command-line tools of this environment come first.
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True, text=True
    )
    return done.stdout


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _joined(output: str) -> list[Any]:
    """An answer, or a stream's events as one: how many tokens an event holds is up to the reader.

    Without the id, which is never the same.
    """
    texts = [line.removeprefix("data: ") for line in output.split("\n") if line]
    events: list[Any] = [
        text if text == "[DONE]" else json.loads(text) | {"id": ""} for text in texts
    ]
    chunks = [event for event in events if event != "[DONE]"]
    joined = chunks[-1] | {
        "text": "".join(chunk["text"] for chunk in chunks),
        "token_ids": [id for chunk in chunks for id in chunk["token_ids"]],
    }
    return [joined, *texts[len(chunks) :]]


def test_curl_prints_what_is_shown(server_url: str) -> None:
    shown = re.findall(r"```sh\n(curl .*?)```\n.*?```text\n(.*?)```", README, re.DOTALL)
    assert len(shown) == 2
    for command, output in shown:
        got = _run(["bash", "-c", command.replace("curl", "curl -sS").replace(ADDRESS, server_url)])
        assert _joined(got) == _joined(output)


def test_the_python_examples_run(server_url: str, recalling_url: str) -> None:
    shown = re.findall(r"```python\n([^`]*)```\n\n```text\n(.*?)```", README, re.DOTALL)
    assert len(shown) == 2
    for example, output in shown:
        url = recalling_url if "recall" in example else server_url
        assert _run([sys.executable, "-c", example.replace(ADDRESS, url)]) == output
    (streaming,) = set(_blocks("python")) - {example for example, _ in shown}
    assert _run([sys.executable, "-c", streaming.replace(ADDRESS, server_url)]) == (
        "one token at a time"
    )


def test_the_command_line_copies() -> None:
    (commands,) = [block for block in _blocks("sh") if "causalrn generate" in block]
    command = next(line for line in commands.splitlines() if line.startswith("causalrn generate"))
    assert _run(["bash", "-c", command]) == "copy me"


def test_figures_are_those_of_their_files() -> None:
    for document in documents():
        assert document.read_text(encoding="utf-8") == render(document), document
