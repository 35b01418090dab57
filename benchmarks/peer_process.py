"""Starts the peer of `benchmarks.peers` in a process of its own, and talks to it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.server_process import ROOT

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
"""Environment variables that keep the peer off the network, and quiet."""

_CALL_SECONDS = 600


class PeerProcess:
    """The peer's process, which times calls of `generate`.

    Attributes:
        about: versions, threads and number of parameters, as the peer gives them.
    """

    def __init__(self, process: asyncio.subprocess.Process, about: dict[str, Any]) -> None:
        self.about = about
        self._process = process

    async def generate(self, batch: int, prompt: int, new: int) -> float:
        """Have a batch of random prompts continued, and return the seconds that it took.

        Args:
            batch: number of prompts.
            prompt: tokens in each.
            new: tokens to write for each.
        """
        assert self._process.stdin is not None
        job = {"batch": batch, "prompt": prompt, "new": new}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        seconds: float = (await _read_line(self._process))["seconds"]
        return seconds


@asynccontextmanager
async def peer_process(
    python: Path, folder: Path, vocab_size: int, width: int
) -> AsyncIterator[PeerProcess]:
    """Start the peer, which writes its checkpoint into a folder; end it with the block."""
    process = await asyncio.create_subprocess_exec(
        python,
        ROOT / "benchmarks" / "peer_transformers.py",
        folder,
        *("--vocab", str(vocab_size), "--hidden", str(width), "--layers", "2"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **OFFLINE},
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
