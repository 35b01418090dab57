"""Sessions of a server that ends, or is killed, in the middle of a turn."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any

import httpx
import pytest

from tests.server.session_client import SessionClient, copied, error_type
from tests.server.sessions.servers import TEXT, process, thread


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_a_killed_server_sent_is_kept(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    store = str(tmp_path / "sessions.db")
    if kind == "postgres":
        store = request.getfixturevalue("postgres").new_place()
    with process(store, step_seconds=0.1) as first:
        id = first.create()
        first.turn(id, "hello")
        with thread_if(kind == "postgres", store) as second, first.stream(id, TEXT) as stream:
            got = next(stream)["text"] + next(stream)["text"]
            if second is not None:
                assert second.get(id)["busy"]
                assert error_type(second.post(id, "hello"), 409) == "session_busy"
            first.process.kill()
            first.process.wait(15)
            with pytest.raises(httpx.RemoteProtocolError):
                list(stream)
            with thread_if(second is None, store) as third:
                goes_on(second or third, id, got)


def test_a_backup_made_in_the_middle_of_a_turn_is_a_store(tmp_path: Path) -> None:
    store, backup = tmp_path / "sessions.db", tmp_path / "backup.db"
    with process(str(store), step_seconds=0.1) as first:
        id = first.create()
        first.turn(id, "hello")
        with first.stream(id, TEXT) as stream:
            got = next(stream)["text"] + next(stream)["text"]
            with closing(connect(store)) as source, closing(connect(backup)) as copy:
                source.backup(copy)  # what sqlite3's `.backup` does
    with thread(str(backup)) as (_, api):
        goes_on(api, id, got)


@contextmanager
def thread_if(wanted: bool, store: str) -> Iterator[SessionClient | None]:
    if not wanted:
        yield None
        return
    with thread(store) as (_, api):
        yield api


def goes_on(api: SessionClient | None, id: str, got: str) -> None:
    """What was sent is in the log, and the session is free again."""
    assert api is not None
    answer = api.turn(id, "", mode="raw", wait_for_session=True, timeout=15, max_tokens=100)
    log = api.log(id)
    assert log == copied("hello") + copied(TEXT)
    kept = TEXT[: len(TEXT) - len(answer["text"])]
    assert kept + answer["text"] == TEXT
    assert kept.startswith(got)


def test_a_server_that_ends_gives_its_sessions_back(tmp_path: Path) -> None:
    store = str(tmp_path / "sessions.db")
    with process(store, step_seconds=0.1) as first:
        id = first.create()
        first.turn(id, "hello")
        events: list[Any] = []
        with first.stream(id, TEXT * 3) as stream:
            events.append(next(stream))
            first.process.send_signal(signal.SIGTERM)
            events += stream
        assert events[-1]["error"]["type"] == "shutting_down"
        got = "".join(event["text"] for event in events[:-1])
        assert first.process.wait(15) == -signal.SIGTERM
    with thread(store) as (_, api):
        log = api.log(id)
        kept = bytes(log[13 + len(TEXT) * 3 + 2 :]).decode()
        assert (TEXT * 3).startswith(kept)
        assert kept.startswith(got)
        assert not api.get(id)["busy"]
        rest = api.turn(id, "", mode="raw", max_tokens=200)["text"]
        assert kept + rest == TEXT * 3
