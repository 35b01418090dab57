"""What sessions cost, and what they save: forks, commits, snapshots, warm and cold turns."""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from rich.progress import Progress

from benchmarks.figures import percentiles_ms
from benchmarks.server_process import causalrn_server
from benchmarks.session_client import Part, SessionClient
from benchmarks.session_copies import PAGE_SIZE, Copier, Outcomes, pool_for
from benchmarks.session_visits import PERCENTILES
from causalrn.model.checkpoint import Checkpoint

_SHORT = 16  # ids of a text whose turn is timed
_WARM_TURNS = 3
_FLUSHES = 100
_FLUSH_BYTES = 4096


async def measure_forks(
    options: argparse.Namespace,
    model: Checkpoint,
    store: str,
    outcomes: Outcomes,
    progress: Progress,
) -> dict[str, Any]:
    """Fork one long session many times, with one turn each: what forks share, and what they add."""
    n_children, n_ids = options.children, options.longest
    largest = 2 * n_ids + 3 + PAGE_SIZE  # its own tokens, and the parent's last page
    settings = pool_for(model, [options.parent, *[largest] * n_children], options.clients)
    task = progress.add_task("forks", total=2 * n_children, note="")
    with causalrn_server({**settings, "session_store": store}) as process:
        server = SessionClient(process.url)
        copier = Copier(server, model.config, Random(0), outcomes)
        parent = await server.create()
        history = copier.history(options.parent)
        await server.turn(parent, history, mode="raw", max_tokens=0)
        before = await server.get(parent)
        page_bytes = before["pool_bytes"] // (before["pages_own"] + before["pages_shared"])
        pages = [(await server.pages())["pages_used"]]
        began = time.perf_counter()
        children = []
        for _ in range(n_children):
            children.append(await server.fork(parent))
            progress.advance(task)
        seconds = time.perf_counter() - began
        pages.append((await server.pages())["pages_used"])
        found = []
        for child in children:
            part = await copier.copy(child, n_ids)
            found.append(part.usage["cached_tokens"])
            progress.advance(task)
        pages.append((await server.pages())["pages_used"])
        own = sum([(await server.get(child))["n_tokens"] - len(history) for child in children])
        held = await server.delete_all()
    if any(held.values()):
        outcomes.failures.append(f"after the forks were deleted, the server holds {held}")
    return {
        "children": n_children,
        "parent_tokens": len(history),
        "fork_ms": 1e3 * seconds / n_children,
        "pages": {"parent": pages[0], "forked": pages[1], "after_a_turn_each": pages[2]},
        "page_bytes": page_bytes,
        "page_tokens": PAGE_SIZE,
        "own_tokens": own,
        "own_bytes": own * page_bytes // PAGE_SIZE,
        "grown_bytes": (pages[2] - pages[0]) * page_bytes,
        "unshared_bytes": n_children * pages[0] * page_bytes,
        "tokens_found_at_least": min(found),
        "held_at_the_end": held,
    }


async def measure_streams(
    options: argparse.Namespace,
    model: Checkpoint,
    store: str,
    outcomes: Outcomes,
    progress: Progress,
) -> dict[str, Any]:
    """Streams that run together as the first turns of sessions, and as many without sessions."""
    n_ids = options.stream
    settings = {"checkpoint": model.path, "log_level": "WARNING"}
    figures: dict[str, Any] = {}
    task = progress.add_task("streams", total=2 * options.repeats * len(options.streams), note="")
    with causalrn_server({**settings, "session_store": store}) as process:
        server = SessionClient(process.url)
        copier = Copier(server, model.config, Random(1), outcomes)
        await copier.copy(None, n_ids)
        for n_streams in options.streams:
            runs: dict[str, list[list[Part]]] = {"in_sessions": [], "without": []}
            for _ in range(options.repeats):
                for name, kept in runs.items():
                    ids: list[str | None] = [None] * n_streams
                    if name == "in_sessions":
                        ids = [await server.create() for _ in ids]
                    texts = [copier.text(n_ids) for _ in ids]
                    pairs = list(zip(ids, texts, strict=True))
                    kept.append(await asyncio.gather(*(server.turn(*pair) for pair in pairs)))
                    for pair, part in zip(pairs, kept[-1], strict=True):
                        await copier.judge(*pair, part)
                    progress.advance(task)
            rates = {name: [_rate(run) for run in kept] for name, kept in runs.items()}
            ratios = zip(rates["in_sessions"], rates["without"], strict=True)
            figures[str(n_streams)] = {
                "ratio": statistics.median(one / other for one, other in ratios),
                **{name: _stream_figures(kept, rates[name]) for name, kept in runs.items()},
            }
        held = await server.delete_all()
    if any(held.values()):
        outcomes.failures.append(f"after the streams, the server holds {held}")
    return {"tokens": n_ids, "repeats": options.repeats, "streams": figures}


def _rate(run: Sequence[Part]) -> float:
    """Tokens a second of streams that began together."""
    end = max(part.last or part.began for part in run)
    n_tokens = sum(len(part.token_ids) for part in run)
    return n_tokens / (end - min(part.began for part in run))


def _stream_figures(runs: Sequence[Sequence[Part]], rates: Sequence[float]) -> dict[str, Any]:
    parts = [part for run in runs for part in run]
    return {
        "tokens_per_second": statistics.median(rates),
        "first_ms": percentiles_ms(((p.first or 0) - p.began for p in parts), PERCENTILES),
        "turn_ms": percentiles_ms(((p.last or 0) - p.began for p in parts), PERCENTILES),
    }


def flush_ms(folder: Path) -> float:
    """Median time, in milliseconds, to add a little to a file in a folder and flush it to disk."""
    found = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FLUSHES):
            began = time.perf_counter()
            os.write(file.fileno(), bytes(_FLUSH_BYTES))
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - began)
    return 1e3 * statistics.median(found)


async def measure_lengths(
    options: argparse.Namespace,
    model: Checkpoint,
    store: str,
    outcomes: Outcomes,
    progress: Progress,
) -> dict[str, Any]:
    """Short turns in long sessions that are warm, restored or cold, and what snapshots cost.

    Every session is read, used while it is warm, saved, and restored under another id. Then the
    server is started again, so that all sessions are cold, and each is used once more.
    """
    lengths = [n for n in options.lengths if n < model.config.max_seq_len - 16 * _SHORT]
    room = [n + 16 * _SHORT for n in lengths for _ in range(options.repeats + 1)]
    settings = {**pool_for(model, room, options.clients), "session_store": store}
    figures: dict[str, dict[str, list[float]]] = {
        str(n): {name: [] for name in ("read", "warm", "save", "restore", "restored", "cold")}
        for n in lengths
    }
    sizes: dict[str, int] = {}
    ids: dict[str, list[str]] = {str(n): [] for n in lengths}
    task = progress.add_task("lengths", total=2 * options.repeats * len(lengths), note="")
    with causalrn_server(settings) as process:
        server = SessionClient(process.url)
        copier = Copier(server, model.config, Random(2), outcomes)
        for n, times in figures.items():
            for _ in range(options.repeats):
                id = await server.create()
                ids[n].append(id)
                history = copier.history(int(n))
                part = await server.turn(id, history, mode="raw", max_tokens=0)
                times["read"].append(_first(part))
                for _ in range(_WARM_TURNS):
                    times["warm"].append(_first(await copier.copy(id, _SHORT)))
                began = time.perf_counter()
                snapshot = await server.save(id)
                saved = time.perf_counter()
                copy = f"ses-{len(ids[n]):032x}"
                await server.restore(copy, snapshot)
                times["save"].append(saved - began)
                times["restore"].append(time.perf_counter() - saved)
                times["restored"].append(_first(await copier.copy(copy, _SHORT)))
                await server.delete(copy)
                sizes[n] = len(snapshot)
                progress.advance(task)
    with causalrn_server(settings) as process:
        server = SessionClient(process.url)
        copier = Copier(server, model.config, Random(3), outcomes)
        await copier.copy(None, _SHORT)
        for n, times in figures.items():
            for id in ids[n]:
                times["cold"].append(_first(await copier.copy(id, _SHORT)))
                progress.advance(task)
        held = await server.delete_all()
    if any(held.values()):
        outcomes.failures.append(f"after the long sessions, the server holds {held}")
    return {
        n: {
            "snapshot_bytes": sizes[n],
            **{f"{name}_ms": percentiles_ms(found, PERCENTILES) for name, found in times.items()},
        }
        for n, times in figures.items()
    }


def _first(part: Part) -> float:
    """Seconds from the request to the first token."""
    assert part.first is not None
    return part.first - part.began
