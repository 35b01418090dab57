"""A hundred thousand short requests of every kind, many of them given up half-way.

    python -m benchmarks.soak [--requests 100000] [--output FILE]

An engine in this process copies texts of 1 to 16 letters with copy-az. Some requests ask for
several samples, for log-probabilities or for stop strings; some have deadlines that not all of them
can meet; some streams are closed, and some readers cancelled, at a random moment. Pages are small
and the pool has too few of them, so that sequences share pages and are preempted. What must hold,
or the exit status is 1: every finished answer is exact, and at the end the engine holds nothing.
The memory of this process is watched meanwhile. The last line is JSON.
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

import uvloop

from benchmarks.figures import arguments, machine, publish, start
from benchmarks.memory import MemoryLog
from benchmarks.server_process import ROOT
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.terminal import progress_bar
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.storage import pool_bytes
from causalrn.server.errors import DeadlineExceededError
from causalrn.server.settings import Settings

# Out of a hundred requests, how many are of each kind.
_KINDS = {
    "plain": 40, "samples": 10, "logprobs": 10, "stop": 10, "deadline": 10, "closed": 10,
    "cancelled": 10,
}  # fmt: skip
_CHECKPOINT = ROOT / "checkpoints" / "copy-az"
_PAGE_SIZE = 16
_PAGES_A_SLOT = 1.5
_RUN_SECONDS = 4 * 3600
_IDLE_SECONDS = 10
_SAMPLES = 600  # of memory, about
_SHOWN = 5  # most failures that the figures list


def random_letters(rng: Random, shortest: int = 1, longest: int = 16) -> str:
    """A text of a random length."""
    return "".join(rng.choices(ascii_lowercase, k=rng.randint(shortest, longest)))


# Texts that come again and again, each long enough to fill a page.
_KNOWN = [random_letters(Random(seed), _PAGE_SIZE, _PAGE_SIZE) for seed in range(32)]
_KNOWN_SHARE = 0.2


def tight_settings(model: Checkpoint) -> Settings:
    """Settings with a pool too small for all the sequences that may run to grow."""
    defaults = Settings(checkpoint=(model.path,), page_size=_PAGE_SIZE)
    n_slots = defaults.max_running
    n_bytes = pool_bytes(
        model,
        page_size=_PAGE_SIZE,
        n_slots=n_slots,
        n_pages=int(_PAGES_A_SLOT * n_slots),
        n_drafting=n_slots,
    )
    return defaults.model_copy(update={"pool_bytes": n_bytes})


class Soak:
    """Sends requests to an engine and judges what comes.

    Args:
        engine: nothing else runs in it.
        on_request: called after every request.

    Attributes:
        outcomes: how many requests there were of each kind and outcome.
        failures: what happened though it must not.
    """

    def __init__(self, engine: Engine, on_request: Callable[[], None]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self._engine = engine
        self._on_request = on_request
        self._left = 0

    async def run(self, n_requests: int, n_clients: int) -> None:
        """Send requests from many clients at once, each one after the other."""
        self._left = n_requests
        await asyncio.gather(*(self._client(Random(seed)) for seed in range(n_clients)))

    async def _client(self, rng: Random) -> None:
        kinds, weights = list(_KINDS), list(_KINDS.values())
        while self._left:
            self._left -= 1
            [kind] = rng.choices(kinds, weights)
            text = rng.choice(_KNOWN) if rng.random() < _KNOWN_SHARE else random_letters(rng)
            try:
                outcome = await self._request(rng, kind, text)
            except Exception as error:
                outcome = "failed"
                self.failures.append(f"{kind} {text!r}: {error!r}")
            self.outcomes[f"{kind}: {outcome}"] += 1
            self._on_request()

    async def _request(self, rng: Random, kind: str, text: str) -> str:
        """Send one request, and tell how it ended."""
        match kind:
            case "closed":
                return await self._close_early(text, rng.randint(0, len(text)))
            case "cancelled":
                return await self._cancel(text, rng.uniform(0, 0.1))
        begin = rng.randrange(len(text))
        stop = text[begin : begin + rng.randint(1, 3)] if kind == "stop" else None
        params = GenerationParams(
            n=rng.randint(2, 4) if kind == "samples" else 1,
            logprobs=rng.randint(0, 3) if kind == "logprobs" else None,
            stop=(stop,) if stop else (),
            timeout=rng.uniform(0.001, 0.1) if kind == "deadline" else None,
        )
        try:
            samples = await self._read(text, params)
        except DeadlineExceededError:
            if kind != "deadline":
                raise
            return "gave up"
        wanted = text.partition(stop)[0] if stop else text
        for sample in samples:
            check_copy(wanted, params, sample)
        return "exact"

    async def _read(self, text: str, params: GenerationParams) -> list[Delta]:
        """All samples of a request, whole."""
        parts: list[list[Delta]] = [[] for _ in range(params.n)]
        async with self._engine.submit(text, params) as stream:
            async for delta in stream:
                parts[delta.index].append(delta)
        return [Delta.join(part) for part in parts]

    async def _close_early(self, text: str, n_read: int) -> str:
        """Read some deltas, then leave. What was read must be the beginning of the copy."""
        read = ""
        async with self._engine.submit(text) as stream:
            while n_read and (delta := await anext(stream, None)) is not None:
                read += delta.text
                n_read -= 1
        if not text.startswith(read):
            raise ValueError(f"wrote {read!r}")
        return "closed"

    async def _cancel(self, text: str, seconds: float) -> str:
        """Be cancelled while reading, unless all is read by then."""
        try:
            async with asyncio.timeout(seconds):
                [sample] = await self._read(text, GenerationParams())
        except TimeoutError:
            return "cancelled"
        check_copy(text, GenerationParams(), sample)
        return "exact"


def check_copy(text: str, params: GenerationParams, sample: Delta) -> None:
    """Check that a whole sample is the copy, with the log-probabilities that were asked for.

    Raises:
        ValueError: it is not.
    """
    if sample.text != text or sample.finish_reason != "stop":
        raise ValueError(f"wrote {sample.text!r}, {sample.finish_reason}")
    if params.logprobs is None:
        if sample.logprobs is not None:
            raise ValueError("log-probabilities that nobody asked for")
        return
    found = sample.logprobs or []
    if [one.token_id for one in found] != sample.token_ids:
        raise ValueError("log-probabilities of other tokens")
    for one in found:
        if one.logprob is None or one.logprob > 0 or len(one.top) != params.logprobs:
            raise ValueError(f"no log-probability: {one}")
        if one.top and one.top[0] != (one.token_id, one.logprob):
            raise ValueError(f"a greedy token that is not the likeliest: {one}")


async def idle_usage(engine: Engine) -> dict[str, int]:
    """What the engine holds after its last request, once it had a moment to let go of it."""
    deadline = time.monotonic() + _IDLE_SECONDS
    while True:
        usage = asdict(engine.usage)
        held = {name: usage[name] for name in ("running", "waiting", "pages_used", "slots_used")}
        held |= {"reserved_bytes": engine.reserved_bytes, "streams": engine.n_streams}
        if not any(held.values()) or time.monotonic() > deadline:
            return held
        await asyncio.sleep(0.05)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    model = load_checkpoint(options.checkpoint)
    engine = Engine(model, tight_settings(model))
    engine.start()
    memory = MemoryLog(os.getpid())
    every = max(1, options.requests // _SAMPLES)
    n_done = 0
    with progress_bar("{task.fields[memory]:.1f} MiB") as progress:
        task = progress.add_task("requests", total=options.requests, memory=0.0)

        def count() -> None:
            nonlocal n_done
            n_done += 1
            if n_done % every == 0:
                memory.sample()
                progress.update(task, completed=n_done, memory=memory.last_mib)

        soak = Soak(engine, count)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                await soak.run(options.requests, options.clients)
            seconds = time.perf_counter() - began
            held = await idle_usage(engine)
        finally:
            await engine.stop()
    if any(held.values()):
        soak.failures.append(f"the engine is idle, but holds {held}")
    return machine() | {
        "model": model.name,
        "requests": n_done,
        "seconds": seconds,
        "requests_per_second": n_done / seconds,
        "outcomes": dict(sorted(soak.outcomes.items())),
        "preemptions": engine.usage.preemptions,
        "cached_tokens": engine.usage.prefix_cache_hits,
        "held_at_the_end": held,
        "memory": memory.figures(),
        "failures": soak.failures[:_SHOWN],
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=_CHECKPOINT,
        help="folder of a checkpoint of letters; default %(default)s",
    )
    parser.add_argument(
        "--requests", type=int, default=100_000, help="requests; default %(default)s"
    )
    parser.add_argument(
        "--clients", type=int, default=128, help="clients at once; default %(default)s"
    )
    options = parser.parse_args()
    figures = uvloop.run(measure(options))
    for outcome, n_requests in figures["outcomes"].items():
        print(f"{n_requests:8} {outcome}")
    memory = figures["memory"]
    print(
        f"{figures['requests_per_second']:.0f} requests/s, {figures['preemptions']} preemptions, "
        f"{figures['cached_tokens']} cached tokens; memory {memory['first_mib']:.1f} to "
        f"{memory['last_mib']:.1f} MiB, at last {memory['slope_mib_per_hour']:+.1f} MiB an hour; "
        f"holds {figures['held_at_the_end']}"
    )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
