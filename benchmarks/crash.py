"""A server that is killed with SIGKILL over and over while clients work in its sessions.

    python -m benchmarks.crash [--kills 50] [--output FILE]

Clients run turns in their sessions, streamed and whole, leave in the middle of some, create, fork
and delete sessions, save them, and restore them in place of others. At a random moment the server
is killed and started again; now and then it is also killed while it starts. Each time all sessions
are compared with what the clients were told, and interrupted turns are continued. What an answer
must be is known from an engine in this process, which knows no sessions and is never interrupted.
What must hold, or the exit status is 1:

- every acknowledged session is there, with all acknowledged tokens; deleted sessions are not;
- tokens beyond those are the beginning of what would have come without the interruption;
- there is no session that nobody asked for;
- continued turns, and those after them, give what the reference gives;
- when all sessions are deleted, the server holds nothing.

The last line is JSON.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from rich.progress import Progress, TaskID

from benchmarks.crash_clients import Client, Reference, Tally
from benchmarks.figures import add_checkpoint, arguments, machine, percentiles_ms, publish, start
from benchmarks.server_process import COMMAND, ROOT, causalrn_server, environment
from benchmarks.session_client import SessionClient
from benchmarks.session_ledger import Ledger, LedgerError
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.terminal import progress_bar
from causalrn.server.settings import Settings

_STARTS_A_KILL = 10  # kills to each one that comes while the server starts
_SECONDS_A_KILL = 120  # at most, from one start to the next
_SHOWN = 10  # most failures that the figures list


class Crashes:
    """Kills a server, starts it again, and looks at what is left.

    Args:
        reference: knows all answers.
        options: of the command line.
        settings: of the server.

    Attributes:
        tally: what came of everything.
    """

    def __init__(
        self, reference: Reference, options: argparse.Namespace, settings: dict[str, Any]
    ) -> None:
        self.tally = Tally()
        self._options = options
        self._settings = settings
        self._rng = Random(options.seed)
        self._clients = [
            Client(reference, self.tally, Random(f"{options.seed} {i}"), options)
            for i in range(options.clients)
        ]
        self._killed_at: float | None = None
        self._start_seconds = 0.0

    async def run(self, progress: Progress, task: TaskID) -> dict[str, int]:
        """Kill as often as is wanted. Returns what the server holds at the end."""
        for i in range(self._options.kills):
            if i % _STARTS_A_KILL == _STARTS_A_KILL - 1:
                self._kill_while_it_starts()
            async with asyncio.timeout(_SECONDS_A_KILL):
                await self._round()
            shown = f"{self.tally.counts['tokens checked']:,} tokens"
            progress.update(task, completed=i + 1, tokens=shown)
        with self._serving() as server:
            await self._check(server)
            for client in self._clients:
                client.stopped = False
            await asyncio.gather(*(self._finish(client, server) for client in self._clients))
            await self._check(server)
            held = await server.delete_all()
        if any(held.values()):
            self.tally.failures.append(f"the server is idle, but holds {held}")
        return held

    @contextlib.contextmanager
    def _serving(self) -> Iterator[SessionClient]:
        """A server for the length of a block. Notes how long it took to serve after a kill."""
        began = time.perf_counter()
        with causalrn_server(self._settings) as process:
            self._start_seconds = time.perf_counter() - began
            if self._killed_at is not None:
                self.tally.ready_seconds.append(time.perf_counter() - self._killed_at)
            self._process = process
            yield SessionClient(process.url)

    async def _round(self) -> None:
        """From one start of the server to its end."""
        with self._serving() as server:
            await self._check(server)
            working = [asyncio.create_task(self._work(client, server)) for client in self._clients]
            await asyncio.sleep(self._rng.uniform(0, self._options.seconds))
            for client in self._clients:
                client.stopped = True
            self._killed_at = time.perf_counter()
            os.kill(self._process.pid, signal.SIGKILL)
            await asyncio.gather(*working)
        counts = self.tally.counts
        counts["kills"] += 1
        counts["turns interrupted"] += sum(client.n_under_way for client in self._clients)

    async def _work(self, client: Client, server: SessionClient) -> None:
        """Let a client work until the server is gone."""
        client.stopped = False
        with self._noted():
            try:
                await client.work(server)
            except OSError:
                if not client.stopped:
                    raise

    def _kill_while_it_starts(self) -> None:
        process = subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            env={**os.environ, **environment(self._settings)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(self._rng.uniform(0.5, 1) * self._start_seconds)
        finally:
            process.kill()
            process.wait()
        self._killed_at = time.perf_counter()
        self.tally.counts["kills while starting"] += 1

    async def _finish(self, client: Client, server: SessionClient) -> None:
        with self._noted():
            await client.go_on(server)
            await client.visit_all(server)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Note an exception, which must not happen, and go on after the block."""
        try:
            yield
        except Exception as error:
            self.tally.fail(error)

    async def _check(self, server: SessionClient) -> None:
        """Compare every session with what its client was told."""
        counts = self.tally.counts
        listed = {session["id"]: session for session in await server.list()}
        for client in self._clients:
            for ledger in list(client.ledgers):
                found = await server.get(ledger.id) if ledger.id in listed else None
                with self._noted():
                    self._compare(ledger, found, listed.pop(ledger.id, None))
                if found is None:
                    client.ledgers.remove(ledger)
                    client.deleted.add(ledger.id)
        unclaimed = [(client, log) for client in self._clients for log in client.unclaimed]
        for id in listed:
            log = (await server.get(id))["token_ids"]
            if made := next((one for one in unclaimed if one[1] == log), None):
                unclaimed.remove(made)
                made[0].ledgers.append(Ledger(id, log, n_turns=self._options.turns - 1))
                counts["sessions whose creation was not acknowledged"] += 1
            else:
                deleted = any(id in client.deleted for client in self._clients)
                what = "was deleted and is back" if deleted else "is there, and nobody made it"
                self.tally.fail(LedgerError(f"{id} {what}", invented=max(1, len(log))))
                await server.delete(id)
        for client in self._clients:
            client.unclaimed.clear()

    def _compare(
        self, ledger: Ledger, found: dict[str, Any] | None, listed: dict[str, Any] | None
    ) -> None:
        counts = self.tally.counts
        had_turn = bool(ledger.ahead)
        n_beyond = ledger.reconcile(None if found is None else found["token_ids"])
        counts["tokens beyond the acknowledged"] += n_beyond
        counts["tokens checked"] += len(ledger.log)
        counts["sessions checked"] += 1
        if had_turn and not ledger.ahead:
            counts["turns complete, but for the word" if n_beyond else "turns not begun"] += 1
        if found is not None and listed is not None:
            n_tokens = {found["n_tokens"], listed["n_tokens"], len(found["token_ids"])}
            if len(n_tokens) > 1:
                raise LedgerError(f"{ledger.id} counts its tokens as {n_tokens}")


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    began = time.perf_counter()
    model = load_checkpoint(options.checkpoint)
    reference = Reference(model, Settings(checkpoint=(model.path,)))
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        progress_bar("{task.fields[tokens]}") as progress,
    ):
        settings = {
            "checkpoint": model.path,
            "session_store": options.store or f"{folder}/sessions.db",
            "log_level": "WARNING",
        }
        crashes = Crashes(reference, options, settings)
        task = progress.add_task("kills", total=options.kills, tokens="")
        try:
            held = await crashes.run(progress, task)
        finally:
            await reference.stop()
    tally = crashes.tally
    return machine() | {
        "model": model.name,
        "store": "PostgreSQL" if options.store else "SQLite",
        "seed": options.seed,
        "seconds": time.perf_counter() - began,
        "counts": dict(sorted(tally.counts.items())),
        "missing": tally.missing,
        "invented": tally.invented,
        "ready_ms": percentiles_ms(tally.ready_seconds, (50, 95, 100)),
        "held_at_the_end": held,
        "failures": tally.failures[:_SHOWN],
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument("--kills", type=int, default=50, help="kills; default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=2, help="most seconds until a kill; default %(default)s"
    )
    parser.add_argument(
        "--clients", type=int, default=12, help="clients at once; default %(default)s"
    )
    parser.add_argument(
        "--turns", type=int, default=8, help="turns in a session; default %(default)s"
    )
    parser.add_argument(
        "--longest", type=int, default=64, help="tokens in the longest text; default %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="decides what is drawn; default %(default)s"
    )
    parser.add_argument(
        "--store", help="postgresql:// URL; by default SQLite in a temporary folder"
    )
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    options = parser.parse_args()
    figures = uvloop.run(measure(options))
    for what, n in figures["counts"].items():
        print(f"{n:8,} {what}")
    ready = figures["ready_ms"]
    print(
        f"{figures['missing']} missing, {figures['invented']} invented; served again "
        f"{ready['p50'] / 1e3:.1f} s after a kill, {ready['p100'] / 1e3:.1f} s at most; "
        f"took {figures['seconds']:.0f} s"
    )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
