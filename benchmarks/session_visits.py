"""Many more sessions than the pool holds, visited again and again."""

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

from rich.progress import Progress

from benchmarks.figures import percentiles_ms
from benchmarks.memory import MemoryLog
from benchmarks.server_process import causalrn_server
from benchmarks.session_client import SessionClient
from benchmarks.session_copies import Copier, Outcomes, pool_for
from causalrn.model.checkpoint import Checkpoint

ORDERS = ("random", "skewed")
PERCENTILES = (50, 95, 99)
RECENT, RECENT_SHARE = 25, 0.8  # how many sessions count as used last, and get which share
_SAMPLES = 200  # of memory, about


@dataclass(frozen=True)
class Visit:
    """One turn of a session.

    Attributes:
        number: of the turn in its session, from 1.
        n_before: tokens that the session held before the turn.
        n_found: how many of these were found in memory, and not computed again.
        first, whole: seconds from the request to the first event, and to the last.
    """

    number: int
    n_before: int
    n_found: int
    first: float
    whole: float

    @property
    def is_warm(self) -> bool:
        """Whether all of the session was in the pool; its last token never is."""
        return self.n_found >= self.n_before - 1


def visits(order: str, rng: Random, items: Sequence[int], times: int, recent: int) -> Iterator[int]:
    """Every item `times` times, in a random order.

    Args:
        order: `random`, or `skewed`, in which most visits go to one of the items visited last.
        rng: decides the order.
        items: what is visited.
        times: how often each item is visited.
        recent: how many items count as visited last.
    """
    left = dict.fromkeys(items, times)
    last: deque[int] = deque(maxlen=recent)
    while left:
        again = [item for item in last if item in left]
        choose_again = order == "skewed" and again and rng.random() < RECENT_SHARE
        item = rng.choice(again if choose_again else list(left))
        left[item] -= 1
        if not left[item]:
            del left[item]
        if item in last:
            last.remove(item)
        last.append(item)
        yield item


async def measure_visits(
    options: argparse.Namespace,
    model: Checkpoint,
    store: str,
    order: str,
    outcomes: Outcomes,
    progress: Progress,
) -> dict[str, Any]:
    """Visit all sessions in one order, delete them, and see that nothing is left."""
    largest = options.turns * (2 * options.longest + 3)
    settings = pool_for(model, [largest] * options.warm, options.clients)
    n_visits = options.sessions * options.turns
    task = progress.add_task(f"visits, {order}", total=n_visits, note="")
    found: list[Visit] = []

    async def visit_some(client: int) -> None:
        rng = Random(f"{order} {client}")
        copier = Copier(server, model.config, rng, outcomes)
        mine = range(client, options.sessions, options.clients)
        numbers = dict.fromkeys(mine, 0)
        tokens = dict.fromkeys(mine, 0)
        recent = max(1, RECENT // options.clients)
        for item in visits(order, rng, mine, options.turns, recent):
            numbers[item] += 1
            part = await copier.copy(ids[item], rng.randint(options.longest // 4, options.longest))
            assert part.first is not None
            assert part.last is not None
            found.append(
                Visit(
                    numbers[item],
                    tokens[item],
                    part.usage["cached_tokens"],
                    part.first - part.began,
                    part.last - part.began,
                )
            )
            tokens[item] = part.session["n_tokens"]
            if len(found) % max(1, n_visits // _SAMPLES) == 0:
                memory.sample()
                progress.update(task, completed=len(found), note=f"{memory.last_mib:.0f} MiB")

    with causalrn_server({**settings, "session_store": store}) as process:
        server = SessionClient(process.url)
        memory = MemoryLog(process.pid)
        memory.sample()
        if await server.list():
            raise SystemExit("there are sessions in the store already; give an empty one")
        pages = (await server.pages())["pages_total"]
        ids = [await server.create() for _ in range(options.sessions)]
        began = time.perf_counter()
        await asyncio.gather(*(visit_some(client) for client in range(options.clients)))
        seconds = time.perf_counter() - began
        evictions = await server.evictions()
        held = await server.delete_all()
        memory.sample()
    if any(held.values()):
        outcomes.failures.append(f"after all sessions were deleted, the server holds {held}")
    return {
        "order": order,
        "sessions": options.sessions,
        "turns": len(found),
        "pool_pages": pages,
        "warm_at_most": options.warm,
        "seconds": seconds,
        "evictions": evictions,
        "held_at_the_end": held,
        "memory": memory.figures(),
        **summary(found),
    }


def summary(found: Sequence[Visit]) -> dict[str, Any]:
    """How often sessions were warm, and how long warm and cold turns took, by the turn's number."""
    later = [visit for visit in found if visit.number > 1]
    groups = {"new": [visit for visit in found if visit.number == 1]}
    groups |= {
        "warm": [visit for visit in later if visit.is_warm],
        "cold": [visit for visit in later if not visit.is_warm],
    }
    numbers = sorted({visit.number for visit in later})
    return {
        "hit_rate": len(groups["warm"]) / len(later) if later else 0.0,
        "times": {name: _times(group) for name, group in groups.items()},
        "by_turn": {
            number: {
                "tokens_before": fmean(v.n_before for v in later if v.number == number),
                **{
                    name: _times([v for v in groups[name] if v.number == number])
                    for name in ("warm", "cold")
                },
            }
            for number in numbers
        },
    }


def _times(group: Sequence[Visit]) -> dict[str, Any]:
    return {
        "turns": len(group),
        "first_ms": percentiles_ms((visit.first for visit in group), PERCENTILES),
        "turn_ms": percentiles_ms((visit.whole for visit in group), PERCENTILES),
    }
