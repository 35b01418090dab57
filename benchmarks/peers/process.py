"""Starts a peer in a process of its own, in its environment, and gives it jobs."""

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.worker import Job
from benchmarks.server_process import ROOT

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
"""Environment variables that keep Transformers off the network, and quiet."""

LLAMA_BINARIES = "llamacpp/build/bin"
"""Folder of llama.cpp's libraries and of its server, among the environments."""

_CALL_SECONDS = 1800  # a job that comes first is done with many settings


@dataclass(frozen=True)
class Peer:
    """A program of others.

    Attributes:
        environment: its folder among those that `environments.sh` makes.
        module: its worker.
    """

    environment: str
    module: str


PEERS = {
    "transformers": Peer("transformers", "benchmarks.peers.transformers_worker"),
    "llama.cpp": Peer("llamacpp", "benchmarks.peers.llamacpp_worker"),
}
"""The peers by name."""


def add_peers(parser: argparse.ArgumentParser) -> None:
    """Add the options that all comparisons with peers have."""
    parser.add_argument(
        "--peers",
        type=lambda text: Path(text).absolute(),  # as it is: a link's own folder counts
        required=True,
        help="folder of the peers' environments, see benchmarks/peers/environments.sh",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")


class PeerProcess:
    """A peer's process.

    Attributes:
        about: versions and number of parameters, as the peer gives them.
    """

    def __init__(self, process: asyncio.subprocess.Process, about: dict[str, Any]) -> None:
        self.about = about
        self._process = process

    async def run(self, job: Job) -> dict[str, Any]:
        """Have a job done: `first` and `seconds` that it took, and with which `settings`.

        Raises:
            SystemExit: the peer ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        answer: dict[str, Any] = await _read_line(self._process)
        return answer


@asynccontextmanager
async def running(
    peer: Peer, environments: Path, folder: Path, shape: Mapping[str, int]
) -> AsyncIterator[PeerProcess]:
    """Start a peer; end it with the block.

    Args:
        peer: to start.
        environments: folder with its environment.
        folder: where it writes its model.
        shape: of the model: `vocab`, `width` and `layers`.

    Raises:
        SystemExit: the peer ended before it was ready.
    """
    options = [part for name, value in shape.items() for part in (f"--{name}", str(value))]
    process = await asyncio.create_subprocess_exec(
        environments / peer.environment / "bin" / "python",
        *("-m", peer.module, str(folder), *options),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **OFFLINE, "LLAMA_CPP_LIB_PATH": str(environments / LLAMA_BINARIES)},
    )
    try:
        yield PeerProcess(process, await _read_line(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _read_line(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(_CALL_SECONDS):
        line = await process.stdout.readline()
    if not line:
        raise SystemExit("the peer ended; see what it wrote")
    return json.loads(line)
