"""What docs/python-client.md shows is what happens, and docs/python-reference.md is current."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "python-client.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "docs" / "python-reference.md"
ADDRESS = "http://127.0.0.1:8000"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
EXAMPLES = [(code, shown) for (kind, code), (_, shown) in pairwise(BLOCKS) if kind == "python"]
ENVIRONMENT = os.environ | {
    "NO_PROXY": "*",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python" / "src")]),
}


def run(*command: str, folder: Path, **environment: str) -> str:
    """What a command prints; one that fails says why, and fails the test."""
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode()


def test_every_example_shows_its_output() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert [kinds[place + 1] for place, kind in enumerate(kinds) if kind == "python"] == (
        ["text"] * len(EXAMPLES)
    )
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_python(server_url: str, code: str, shown: str, tmp_path: Path) -> None:
    assert ADDRESS in code
    program = code.replace(ADDRESS, server_url)
    assert run(sys.executable, "-c", program, folder=tmp_path) == shown.replace(ADDRESS, server_url)


def test_commands(server_url: str, tmp_path: Path) -> None:
    place = next(n for n, (kind, text) in enumerate(BLOCKS) if "causalrn remote" in text)
    (kind, commands), (_, shown) = BLOCKS[place : place + 2]
    assert kind == "sh"
    names = f'causalrn() {{ "{sys.executable}" -m causalrn_client.cli "$@"; }}\nset -euo pipefail\n'
    printed = run(
        "bash", "-c", names + commands, folder=tmp_path, CAUSALRN_BASE_URL=server_url
    ).splitlines()
    *expected, health = shown.splitlines()
    assert printed[:-1] == expected
    pages = re.compile(r"[\d,]+ of [\d,]+")  # depends on the machine
    assert pages.sub("", printed[-1]) == pages.sub("", health)


def test_the_reference_is_current(tmp_path: Path) -> None:
    program = ROOT / "clients" / "python" / "reference.py"
    run(sys.executable, str(program), str(tmp_path / "reference.md"), folder=ROOT)
    written = (tmp_path / "reference.md").read_text(encoding="utf-8")
    assert written == REFERENCE.read_text(encoding="utf-8"), "run `make reference`"


def test_links_of_the_reference_lead_somewhere() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    first: dict[str, str] = {}  # of several headings that are alike, links lead to the first one
    for heading in re.findall(r"^#+ `?([\w.]+)`?$", text, re.MULTILINE):
        first.setdefault(heading.replace(".", "").lower(), heading)
    linked = re.findall(r"\[(\w+)\]\(#([^)]*)\)", text)
    assert len(linked) == text.count("](#") > 50
    for name, anchor in linked:
        assert first[anchor] == name
