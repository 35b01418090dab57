"""Every example of every document runs, and prints what the document says.

A document that needs a server of its own kind gets it by an entry in `SETTINGS`; one whose examples
another test runs is named in `ELSEWHERE`, with that test.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.documents.blocks import ROOT, Block, blocks_of, documents
from tests.documents.runner import ADDRESS, make_folder, run
from tests.end_to_end.served import served

RUN = {"sh", "bash", "console", "python"}
# Shown, and not run: drawings and formulas; and configuration, which has to be well-formed.
SHOWN: dict[str, Callable[[str], object]] = {
    "text": str,
    "json": json.loads,
    "toml": tomllib.loads,
}
# Environment variables of the server that a document talks to, if it is not one that has nothing
# configured.
SETTINGS: dict[str, dict[str, str]] = {}
# Documents whose blocks another test runs: there is more to say about them than what they print.
ELSEWHERE = {
    "clients/typescript/README.md": "clients/typescript/test/served/readme.test.ts",
    "docs/models.md": "tests/end_to_end/test_models_document.py",
    "docs/security.md": "tests/end_to_end/test_security_document.py",
}
ANY = {"id": "", "created": 0}
# Files that examples read and do not make.
FILES = {
    "chapter.txt": "Call me Ishmael. Some years ago I thought I would sail about a little.",
    "prompts.txt": "one\ntwo\n",
}
# A place that no reader has.
DATABASE = "postgresql://user:password@host/database"

DOCUMENTS = [document for document in documents() if document not in ELSEWHERE]
STAND_INS = {
    "CONTRIBUTING.md": ["make test", "make check", "make conformance", "make unasync"],
    "README.md": [
        "make test",
        "pip install",
        "causalrn train",
        "causalrn evaluate",
        "docker build",
        "docker run",
    ],
    "docs/python-client.md": ["pip install"] * 2,
    "docs/training.md": ["causalrn train", "causalrn train"],
}


def test_every_block_is_run_or_shown() -> None:
    unknown = [
        block
        for document in DOCUMENTS
        for block in blocks_of(document)
        if block.language not in RUN and block.language not in SHOWN
    ]
    assert unknown == []


def test_what_is_named_here_is_there() -> None:
    assert {*SETTINGS, *ELSEWHERE, *STAND_INS} <= set(documents())
    for document, test in ELSEWHERE.items():
        assert Path(document).name in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_configuration_is_well_formed(document: str) -> None:
    for block in blocks_of(document):
        SHOWN.get(block.language, str)(block.text)


class Servers:
    """Servers for documents, each started when it is first needed."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._urls: dict[str, str] = {}

    def url(self, settings: Mapping[str, str]) -> str:
        key = json.dumps(settings, sort_keys=True)
        if key not in self._urls:
            store = self._folder / f"{len(self._urls)}.db"
            all_settings = {"CAUSALRN_SESSION_STORE": str(store), **settings}
            self._urls[key] = self._stack.enter_context(served(**all_settings))
        return self._urls[key]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if any(b.language in RUN for b in blocks_of(document))],
)
def test_examples_run_and_print_what_is_shown(
    document: str, servers: Servers, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "root").mkdir()
    folder = tmp_path / "root"
    make_folder(folder)
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    blocks = [block for block in blocks_of(document) if block.language in RUN]
    if any(DATABASE in block.text for block in blocks):
        url = request.getfixturevalue("postgres_url")
        blocks = [replace(block, text=block.text.replace(DATABASE, url)) for block in blocks]
    shell = [block for block in blocks if block.language != "python"]
    programs = [[block] for block in blocks if block.language == "python"]
    stand_ins: list[str] = []
    for together in filter(None, [shell, *programs]):
        outputs = run(together, url_for(document, together, servers), folder)
        stand_ins += outputs.stand_ins
        for block, output in outputs.of.items():
            if block.output is not None:
                where = f"{document}:{block.line}"
                assert same_each_time(output) == same_each_time(block.output), where
    assert stand_ins == STAND_INS.get(document, [])


def url_for(document: str, blocks: Sequence[Block], servers: Servers) -> str:
    """The server that blocks talk to, if they talk to any."""
    text = "".join(block.text for block in blocks)
    if ADDRESS not in text and "causalrn session" not in text:
        return ADDRESS
    return servers.url(SETTINGS.get(document, {}))


def same_each_time(output: str) -> list[Any]:
    """An output without what differs from run to run.

    That is the id and the time of an answer, and how many tokens an event of a stream holds, which
    is up to the reader: a stream becomes one event.
    """
    lines = [line.removeprefix("data: ") for line in output.splitlines() if line]
    if not lines or not lines[0].startswith("{"):
        return [output.rstrip("\n")]
    events: list[Any] = [line if line == "[DONE]" else json.loads(line) | ANY for line in lines]
    chunks = [event for event in events if "text" in event]
    if not chunks:
        return events
    joined = chunks[-1] | {
        "text": "".join(chunk["text"] for chunk in chunks),
        "token_ids": [id for chunk in chunks for id in chunk["token_ids"]],
    }
    return [joined, *events[len(chunks) :]]
