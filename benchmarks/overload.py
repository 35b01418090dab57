"""A server with a small queue, and ten times as many clients as it has room for.

    python -m benchmarks.overload [--seconds 60] [--output FILE]

Every client sends one streamed `POST /generate` after another, each with a text of 16 to 128 random
bytes to copy; a client that was refused comes back after a short while. What must hold, or the exit
status is 1: every answer is the exact copy, or a refusal with 429 or 503 and `Retry-After`; and
when all clients are done, the server holds nothing. The server's memory is watched meanwhile. The
last line is JSON.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.request import urlopen

import uvloop

from benchmarks.figures import (
    add_checkpoint,
    arguments,
    machine,
    percentiles_ms,
    publish,
    show_ms,
    start,
)
from benchmarks.http_stream import Recording, Reply, post
from benchmarks.memory import MemoryLog
from benchmarks.server_process import ServerProcess, causalrn_server

_CROWD = 10  # clients, as a multiple of the requests that the server has room for
_PAUSE_SECONDS = 0.5  # that a refused client waits at most
_REQUEST_SECONDS = 60
_IDLE_SECONDS = 10
_SHOWN = 5  # failures
_POOL_BYTES = 32 * 2**20  # small, so that before long every page has been in use
_EMPTY = {"running": 0, "waiting": 0, "pages_used": 0}

# First and last code points of what texts are made of: 1, 2, 3 and 4 bytes of UTF-8.
_SCRIPTS = ((0x20, 0x7E), (0x0410, 0x044F), (0x4E00, 0x9FA5), (0x1F600, 0x1F64F))


@dataclass
class Tally:
    """What came of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)

    def add(self, text: str, recording: Recording) -> bool:
        """Judge an answer. Returns whether the request was admitted."""
        reply = recording.reply()
        if reply.status in (429, 503) and reply.is_whole and reply.headers.get("retry-after"):
            self.outcomes[f"refused with {reply.status}"] += 1
            self.refusals.append(recording.pieces[0][0] - recording.began)
            return False
        if is_copy(text, reply):
            self.outcomes["exact copy"] += 1
            self.ttfts.append(reply.events[0][0] - recording.began)
        else:
            body = reply.body.decode(errors="replace")
            self.fail(f"{text!r}: status {reply.status}, {reply.headers}, {body}")
        return True

    def fail(self, why: str) -> None:
        """Note what must not happen."""
        self.outcomes["failed"] += 1
        self.failures.append(why)


def random_text(rng: Random, n_bytes: int) -> str:
    """A text of `n_bytes` bytes of UTF-8, of one script or of several."""
    scripts = rng.sample(_SCRIPTS, rng.randint(1, len(_SCRIPTS)))
    text, left = "", n_bytes
    while left:
        character = chr(rng.randint(*rng.choice(scripts)))
        if len(character.encode()) > left:
            character = chr(rng.randint(*_SCRIPTS[0]))
        text += character
        left -= len(character.encode())
    return text


def is_copy(text: str, reply: Reply) -> bool:
    """Whether an answer is a whole stream that says exactly this text, and then stops."""
    if reply.status != 200 or not reply.is_whole or not reply.events:
        return False
    *chunks, (_, done) = reply.events
    values = [json.loads(data) for _, data in chunks]
    if done != "[DONE]" or not values or any("error" in value for value in values):
        return False
    reasons = [value["finish_reason"] for value in values]
    copy = "".join(value["text"] for value in values)
    return copy == text and reasons == [None] * (len(values) - 1) + ["stop"]


async def run_client(url: str, seed: int, deadline: float, tally: Tally) -> None:
    """Send one request after the other, until the time is over."""
    rng = Random(seed)
    while time.perf_counter() < deadline:
        text = random_text(rng, rng.randint(16, 128))
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                recording = await post(url, "/generate", {"prompt": text, "stream": True})
        except (OSError, TimeoutError) as error:
            tally.fail(f"{text!r}: {error!r}")
            continue
        if not tally.add(text, recording):
            await asyncio.sleep(rng.uniform(0, _PAUSE_SECONDS))


async def watch(memory: MemoryLog) -> None:
    """Sample memory twice a second until cancelled."""
    while True:
        memory.sample()
        await asyncio.sleep(0.5)


async def crowd(server: ServerProcess, n_clients: int, seconds: float) -> dict[str, Any]:
    """Let all clients loose for a while. Returns the figures of what came of it."""
    memory, tally = MemoryLog(server.pid), Tally()
    watching = asyncio.create_task(watch(memory))
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(
        *(run_client(server.url, seed, began + seconds, tally) for seed in range(n_clients))
    )
    cpu, lasted = time.process_time() - cpu, time.perf_counter() - began
    watching.cancel()
    left = await asyncio.to_thread(_held, server.url)
    memory.sample()
    if left != _EMPTY:
        tally.fail(f"the server is idle, but holds {left}")
    return {
        "clients": n_clients,
        "seconds": lasted,
        "outcomes": dict(tally.outcomes),
        "copies_per_second": tally.outcomes["exact copy"] / lasted,
        "ttft_ms": percentiles_ms(tally.ttfts),
        "refusal_ms": percentiles_ms(tally.refusals),
        "load_cores": cpu / lasted,
        "held_at_the_end": left,
        "memory": memory.figures(),
        "failures": tally.failures[:_SHOWN],
    }


def _held(url: str) -> dict[str, int]:
    """What an idle server holds, once it had a moment to become idle."""
    deadline = time.monotonic() + _IDLE_SECONDS
    while True:
        with urlopen(f"{url}/health/ready", timeout=10) as answer:
            ready = json.load(answer)
        held = {name: ready[name] for name in _EMPTY}
        if held == _EMPTY or time.monotonic() > deadline:
            return held
        time.sleep(0.1)


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long clients come; default %(default)s"
    )
    parser.add_argument(
        "--running", type=int, default=8, help="requests that run at once; default %(default)s"
    )
    parser.add_argument(
        "--waiting", type=int, default=8, help="requests that fit in the queue; default %(default)s"
    )
    options = parser.parse_args()
    settings = {
        "checkpoint": options.checkpoint.absolute(),
        "max_running": options.running,
        "max_waiting": options.waiting,
        "pool_bytes": _POOL_BYTES,
    }
    n_clients = _CROWD * (options.running + options.waiting)
    with causalrn_server(settings) as server:
        figures = machine() | uvloop.run(crowd(server, n_clients, options.seconds))
    for outcome, n_requests in figures["outcomes"].items():
        print(f"{n_requests:8} {outcome}")
    memory = figures["memory"]
    print(
        f"TTFT {show_ms(figures['ttft_ms'])} ms, refusals {show_ms(figures['refusal_ms'])} ms; "
        f"memory {memory['first_mib']:.1f} to {memory['last_mib']:.1f} MiB, at last "
        f"{memory['slope_mib_per_hour']:+.1f} MiB an hour; holds {figures['held_at_the_end']}"
    )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
