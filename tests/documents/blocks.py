"""The fenced blocks of the documents that are shipped."""

import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: path of its file, from the root of the repository.
        line: of its fence, from 1.
        language: what the fence says.
        text: what is between the fences.
        output: the text of the block that follows directly, if that shows an output.
    """

    document: str
    line: int
    language: str
    text: str
    output: str | None = None


def documents() -> list[str]:
    """All Markdown files of the repository, but for what is in hidden or installed folders."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(
        str(path)
        for path in paths
        if not any(part.startswith(".") or part == "node_modules" for part in path.parts)
    )


def blocks_of(document: str) -> list[Block]:
    """The blocks of a document, in their order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = list(_FENCED.finditer(text))
    blocks: list[Block] = []
    for here, after in zip_longest(found, found[1:]):
        is_followed = (
            after
            and after["language"] == "text"
            and here["language"] != "text"
            and not text[here.end() : after.start()].strip()
        )
        blocks.append(
            Block(
                document,
                text.count("\n", 0, here.start()) + 1,
                here["language"].strip(),
                here["text"],
                output=after["text"] if is_followed else None,
            )
        )
    return blocks
