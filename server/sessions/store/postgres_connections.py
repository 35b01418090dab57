"""Connections to PostgreSQL: only a few, made when needed, and none that can hang."""

import asyncio
import contextlib
import os
import re
import select
import socket
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from causalrn.server.errors import ServiceError, StartupError

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_CONNECTIONS = 4  # at most; a commit takes milliseconds
_CONNECT_SECONDS = 3
# The server's own limits end what it does too slowly, and free what a vanished client has locked.
# All of `synchronous_commit` but `off` promise that a commit is on the disk.
_SETTINGS = """
SELECT set_config('statement_timeout', %(statement)s, false),
    set_config('lock_timeout', %(lock)s, false),
    set_config('idle_in_transaction_session_timeout', %(idle)s, false),
    CASE current_setting('synchronous_commit')
        WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""


class PostgresConnections:
    """Keeps connections for the next transaction, and never waits long for one.

    It makes no connections in the background, as other pools do. So a caller who needs one is told
    at once, and with the original error, why there is none.

    Args:
        url: the database's URL.
        answer_seconds: how long the database may take for one transaction.

    Raises:
        StartupError: the URL is not valid.
    """

    def __init__(self, url: str, *, answer_seconds: float) -> None:
        self._parameters: dict[str, Any] = {
            "connect_timeout": _CONNECT_SECONDS,
            "tcp_user_timeout": round(answer_seconds * 1000),
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "fallback_application_name": "causalrn",
            **_parse(url),
        }
        self._answer_seconds = answer_seconds
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._idle: list[Connection] = []

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection within a transaction, which is committed at the end.

        It is rolled back after a `ServiceError`. After any other error the connection is closed,
        the transaction with it, and so are the idle ones, which are likely broken as well.

        Raises:
            psycopg.Error, OSError: the server cannot be reached or refuses.
            TimeoutError: it does not answer.
        """
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise TimeoutError("all connections wait for an answer") from None
        try:
            connection = self._take_idle() or await self._connect()
            try:
                async with self._watch(connection):
                    try:
                        yield connection
                    except ServiceError:
                        await connection.rollback()
                        raise
                    await connection.commit()
            except ServiceError:
                self._idle.append(connection)
                raise
            except BaseException:
                await connection.close()
                await self.close_idle()
                raise
            self._idle.append(connection)
        finally:
            self._slots.release()

    async def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()

    def redact(self, text: str) -> str:
        """A text without the password."""
        password = self._parameters.get("password")
        return text.replace(password, "…") if password else text

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if _is_quiet(connection):
                return connection
            connection.pgconn.finish()
        return None

    async def _connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(**self._parameters)
        try:
            limits = {"statement": 0.8, "lock": 0.6, "idle": 2.0}  # of the time for an answer
            ms = {name: f"{x * self._answer_seconds * 1000:.0f}" for name, x in limits.items()}
            async with self._watch(connection):
                await connection.execute(_SETTINGS, ms)
                await connection.commit()
        except BaseException:
            await connection.close()
            raise
        return connection

    @contextlib.asynccontextmanager
    async def _watch(self, connection: Connection) -> AsyncIterator[None]:
        """Cut a connection off when what is done with it takes too long.

        Cancelling the work would mean waiting again for the server that does not answer.
        """
        late = False

        def cut_off() -> None:
            nonlocal late
            late = True
            with (
                contextlib.suppress(psycopg.Error, OSError),  # it is broken already
                socket.socket(fileno=os.dup(connection.fileno())) as same,
            ):
                same.shutdown(socket.SHUT_RDWR)

        timer = asyncio.get_running_loop().call_later(self._answer_seconds, cut_off)
        try:
            yield
        except psycopg.Error as error:
            if late:
                raise TimeoutError(f"no answer within {self._answer_seconds:g} s") from error
            raise
        finally:
            timer.cancel()


def _parse(url: str) -> dict[str, Any]:
    """The parameters that a URL gives.

    Raises:
        StartupError: the URL is wrong. The message does not repeat it, as it may hold a password.
    """
    try:
        found = conninfo_to_dict(url)
    except psycopg.Error:
        found = {"port": "unknown"}
    # A password with an unescaped "@", "/" or "?" ends up in one of these.
    hosts, ports = str(found.get("host", "")), str(found.get("port", ""))
    if "@" in hosts + str(found.get("dbname", "")) or not re.fullmatch(r"[\d,]*", ports):
        raise StartupError(
            "CAUSALRN_SESSION_STORE is not a valid PostgreSQL URL; characters like @ : / ? # % in "
            "a user or password must be percent-encoded"
        )
    return dict(found)


def _is_quiet(connection: Connection) -> bool:
    """Whether the server has sent nothing to an idle connection, as it does when it shuts down."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
