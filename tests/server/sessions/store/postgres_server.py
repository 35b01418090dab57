"""A real PostgreSQL server for tests."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from tests.programs import program

USER = "causalrn"
PASSWORD = "fish & chips"
QUOTED_PASSWORD = "fish%20%26%20chips"
NOT_ROOT = "postgres"  # PostgreSQL refuses to run as root; its package makes this user
_CONFIGURATION = """
listen_addresses = ''
fsync = off
max_connections = 50
log_min_messages = fatal
"""


class PostgresServer:
    """A server that listens on a socket in its own folder.

    Args:
        folder: that belongs to the user it runs as.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places = count()
        self._data = folder / "data"
        password = folder / "password"
        password.write_text(PASSWORD)
        shutil.chown(password, *([NOT_ROOT] if os.getuid() == 0 else [os.getuid()]))
        self._run(
            "initdb",
            *("--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--no-sync"),
        )
        configuration = self._data / "postgresql.conf"
        configuration.write_text(
            f"{configuration.read_text()}{_CONFIGURATION}unix_socket_directories = '{folder}'\n"
        )
        self.start()

    def url(self, schema: str = "public") -> str:
        return (
            f"postgresql://{USER}:{QUOTED_PASSWORD}@/postgres?host={self.folder}"
            f"&options=-csearch_path%3D{schema}"
        )

    def new_place(self) -> str:
        """The URL of an empty schema."""
        schema = f"place{next(self._places)}"
        self.execute(f"CREATE SCHEMA {schema}")
        return self.url(schema)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder}/log")

    def stop(self) -> None:
        """Break all connections off and stop, as after `kill -9`."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def pids(self) -> list[int]:
        """Of the server and of all its children."""
        parent = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections stay, and nothing answers."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    def _run(self, name: str, *arguments: str) -> None:
        command = [_beside_postgres(name), f"--pgdata={self._data}", *arguments]
        if os.getuid() == 0:
            ids = ("--reuid", NOT_ROOT, "--regid", NOT_ROOT, "--clear-groups")
            command = [program("setpriv"), *ids, *command]
        _check(command)


def _check(command: Sequence[str]) -> None:
    # To a file: a pipe would stay open as long as the server that it starts.
    with tempfile.TemporaryFile("w+") as output:
        status = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            timeout=60,
        ).returncode
        output.seek(0)
        assert status == 0, f"{command}: {output.read()}"


def _beside_postgres(name: str) -> str:
    """A program of the same version."""
    return str(Path(program("postgres")).with_name(name))


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A new server, in a folder whose parents everybody may enter."""
    program("postgres")
    with tempfile.TemporaryDirectory(prefix="causalrn-postgres-") as name:
        folder = Path(name)
        if os.getuid() == 0:
            shutil.chown(folder, NOT_ROOT)
        server = PostgresServer(folder)
        try:
            yield server
        finally:
            server.stop()


async def until_it_waits_for_a_lock(url: str) -> None:
    """Return when a statement of a store waits for somebody else to end a transaction."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'causalrn' "
        "AND wait_event_type = 'Lock'"
    )
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        while await (await admin.execute(waiting)).fetchone() == (0,):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
