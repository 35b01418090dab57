"""Runs the blocks of a document as a reader would: one after the other, in one folder."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.documents.blocks import ROOT, Block
from tests.programs import program

ADDRESS = "http://127.0.0.1:8000"
_STAND_INS = Path(__file__).with_name("stand_ins.sh")
_ADDED = "added"
_END = "\x1e"  # of a block's output


@dataclass(frozen=True)
class Printed:
    """What blocks printed.

    Attributes:
        of: standard output of every block.
        stand_ins: commands that `stand_ins.sh` stood in for.
    """

    of: Mapping[Block, str]
    stand_ins: Sequence[str]


def make_folder(folder: Path) -> None:
    """Turn a folder into what a reader sees at the root of the repository.

    What blocks write stays in it, as long as it is not below one of the repository's own folders.
    """
    for path in ROOT.iterdir():
        if path.name not in {".git", ".venv"}:
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    # The installation may be older than a command that the repository adds to `causalrn`.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in commands.items())
        for group, commands in project.get("entry-points", {}).items()
    )
    info = folder / _ADDED / "added-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


def run(blocks: Sequence[Block], url: str, folder: Path) -> Printed:
    """Run one Python block, or all shell blocks of a document in one shell.

    Args:
        blocks: whose languages are Python, or sh, bash and console.
        url: of the server that takes the place of the one at the default address.
        folder: see `make_folder`.

    Raises:
        AssertionError: a command failed, or a program printed a warning.
    """
    texts = [block.text.replace(ADDRESS, url) for block in blocks]
    if blocks[0].language == "python":
        command = [sys.executable, "-W", "error", "-c", *texts]
    else:
        if any("curl " in text for text in texts):
            program("curl")
        begin = f"exec 3>stand-ins; source {_STAND_INS}"
        script = "\n".join([begin, *(f"{text}\nprintf '{_END}'" for text in texts)])
        command = ["bash", "-euo", "pipefail", "-c", script]
    environment = {
        **os.environ,
        "CAUSALRN_BASE_URL": url,
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(
            map(str, (ROOT, ROOT / "clients" / "python" / "src", folder / _ADDED))
        ),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    if blocks[0].language == "python":
        return Printed({blocks[0]: done.stdout}, [])
    outputs = done.stdout.split(_END)[: len(blocks)]
    said = (folder / "stand-ins").read_text(encoding="utf-8")
    return Printed(dict(zip(blocks, outputs, strict=True)), said.splitlines())
