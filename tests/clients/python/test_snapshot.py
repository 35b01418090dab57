"""Sessions as files, on their way from the server and back."""

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import pytest

from causalrn_client import (
    APITimeoutError,
    IncompleteStreamError,
    InvalidRequestError,
    InvalidSnapshotError,
    RequestTooLargeError,
    ResponseFormatError,
    SessionBusyError,
    SessionNotFoundError,
    UnprocessableEntityError,
)
from causalrn_client.partial_file import PartialFile
from causalrn_client.upload import PIECE_BYTES
from tests.clients.python.blocking import AnyClient, expect_the_rest_within
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.contract_sessions import MAGIC
from tests.clients.python.raw_server import Reply, http_reply, raw_server

ID = "ses-" + "1" * 32
SNAPSHOT = MAGIC + b'{"passages": ["abc"], "token_ids": [1, 2, 3]}'
BINARY = "application/octet-stream"
WHOLE = http_reply(SNAPSHOT, BINARY)
CUT = Reply(WHOLE.content[:-10])
LARGE = bytes(range(256)) * (5 * PIECE_BYTES // 512)  # two pieces and a half


@pytest.fixture
def log_id(server: ContractServer) -> str:
    return server.sessions.add(passages=["abc"], token_ids=[1, 2, 3]).id


class TestDownload:
    def test_as_bytes(self, client: AnyClient, log_id: str) -> None:
        assert client.session(log_id).snapshot() == SNAPSHOT

    @pytest.mark.parametrize("kind", [str, Path])
    def test_into_a_file(
        self, client: AnyClient, log_id: str, tmp_path: Path, kind: type[str | Path]
    ) -> None:
        path = tmp_path / "chat.safetensors"
        assert client.session(log_id).snapshot(kind(path)) == path
        assert path.read_bytes() == SNAPSHOT
        assert list(tmp_path.iterdir()) == [path]

    def test_the_file_is_like_any_other(
        self, client: AnyClient, log_id: str, tmp_path: Path
    ) -> None:
        client.session(log_id).snapshot(tmp_path / "a")
        (tmp_path / "b").touch()
        a, b = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab")
        assert a == b

    def test_progress(self, client: AnyClient, log_id: str, server: ContractServer) -> None:
        server.answer_next(Canned(body=LARGE, headers={"content-type": BINARY}))
        seen: list[tuple[int, int | None]] = []
        content = client.session(log_id).snapshot(progress=lambda *done: seen.append(done))
        assert content == LARGE
        assert len(seen) == 3
        assert seen == sorted(seen)
        assert seen[-1] == (len(LARGE), len(LARGE))

    def test_progress_towards_nobody_knows_what(self, connect: Connect) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n"
        seen: list[tuple[int, int | None]] = []
        with raw_server(Reply(head + b"abc")) as server:
            session = connect(server.url).session(ID)
            assert session.snapshot(progress=lambda *done: seen.append(done)) == b"abc"
        assert seen == [(3, None)]

    @pytest.mark.parametrize("existed", [True, False])
    def test_a_connection_that_drops_leaves_no_file(
        self, connect: Connect, tmp_path: Path, existed: bool
    ) -> None:
        path = tmp_path / "chat"
        if existed:
            path.write_text("as it was")
        with raw_server(CUT, CUT) as server:
            session = connect(server.url, max_retries=1).session(ID)
            with pytest.raises(IncompleteStreamError):
                session.snapshot(path)
            assert server.connections == 2
        assert list(tmp_path.iterdir()) == [path] * existed
        assert not existed or path.read_text() == "as it was"

    def test_a_connection_that_drops_once_is_made_up_for(
        self, connect: Connect, tmp_path: Path
    ) -> None:
        seen: list[tuple[int, int | None]] = []
        with raw_server(Reply(), CUT, WHOLE) as server:
            session = connect(server.url).session(ID)
            session.snapshot(tmp_path / "chat", progress=lambda *done: seen.append(done))
            assert server.connections == 3
        assert (tmp_path / "chat").read_bytes() == SNAPSHOT
        assert seen[-1] == (len(SNAPSHOT), len(SNAPSHOT))
        with raw_server(CUT, WHOLE) as server:
            assert connect(server.url).session(ID).snapshot() == SNAPSHOT

    def test_a_connection_that_stalls(self, connect: Connect, tmp_path: Path) -> None:
        with raw_server(Reply(CUT.content, then_silence=True)) as server:
            client = connect(server.url, timeout=20)
            expect_the_rest_within(client, 0.3)
            with pytest.raises(APITimeoutError):
                client.session(ID).snapshot(tmp_path / "chat")
            assert server.connections == 1
        assert list(tmp_path.iterdir()) == []

    def test_refusals(self, connect: Connect, server: ContractServer, tmp_path: Path) -> None:
        busy = server.sessions.add(busy=True).id
        client = connect(server.url, max_retries=0)
        for id, kind in ((busy, SessionBusyError), (ID, SessionNotFoundError)):
            with pytest.raises(kind):
                client.session(id).snapshot(tmp_path / "chat")
        assert list(tmp_path.iterdir()) == []

    def test_another_answer_is_a_format_error(
        self, client: AnyClient, server: ContractServer, tmp_path: Path
    ) -> None:
        server.answer_next(Canned(body=b"<html>", headers={"content-type": "text/html"}))
        with pytest.raises(ResponseFormatError, match="text/html"):
            client.session(ID).snapshot(tmp_path / "chat")
        assert list(tmp_path.iterdir()) == []
        assert len(server.received) == 1

    def test_where_no_file_can_be(
        self, client: AnyClient, server: ContractServer, tmp_path: Path
    ) -> None:
        with pytest.raises(IsADirectoryError):
            client.session(ID).snapshot(tmp_path)
        with pytest.raises(FileNotFoundError):
            client.session(ID).snapshot(tmp_path / "no" / "chat")
        assert server.received == []

    def test_an_error_of_the_listener_leaves_no_file(
        self, client: AnyClient, log_id: str, tmp_path: Path
    ) -> None:
        def listen(done: int, total: int | None) -> None:
            raise KeyError(done, total)

        with pytest.raises(KeyError):
            client.session(log_id).snapshot(tmp_path / "chat", progress=listen)
        assert list(tmp_path.iterdir()) == []


class TestPartialFile:
    def test_an_error_of_the_disk_leaves_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "chat"
        with pytest.raises(OSError, match="Bad file"), PartialFile(path) as partial:  # noqa: PT012
            file = partial.open()
            file.write(b"abc")
            os.close(file.fileno())
            partial.put_in_place()
        assert list(tmp_path.iterdir()) == []

    def test_it_has_its_name_at_once_and_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "chat"
        path.write_bytes(b"before")
        with PartialFile(path) as partial:
            partial.open().write(b"after")
            assert path.read_bytes() == b"before"
            assert partial.put_in_place() == path
            assert path.read_bytes() == b"after"
        assert list(tmp_path.iterdir()) == [path]

    def test_the_longest_of_names(self, tmp_path: Path) -> None:
        path = tmp_path / ("x" * 255)
        with PartialFile(path) as partial:
            partial.open()
            partial.put_in_place()
        assert path.exists()

    # Of a file that nobody got hold of: it is closed, but by the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_an_interrupt_at_any_moment_leaves_no_file(self, tmp_path: Path) -> None:
        def write() -> None:
            with PartialFile(tmp_path / "chat") as partial:
                partial.open().write(b"abc")

        moments = 0
        while was_interrupted(write, moments):
            assert list(tmp_path.iterdir()) == []
            moments += 1
        assert moments > 4


def was_interrupted(work: Callable[[], None], moments: int) -> bool:
    """Whether Ctrl-C so many moments after its start reached `work` before it was through.

    Moments are those of what begins a file, not of what cleans up: no code in Python can keep an
    interrupt out of that.
    """

    def trace(frame: FrameType, event: str, arg: object) -> Any:  # noqa: ARG001
        nonlocal moments
        if frame.f_code not in {PartialFile.__enter__.__code__, PartialFile.open.__code__}:
            return None
        moments -= 1
        if moments == -1:
            raise KeyboardInterrupt
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(former)
    return False


class TestUpload:
    @pytest.fixture(params=["bytes", "str", "path", "file", "stream"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        path = tmp_path / "chat"
        path.write_bytes(SNAPSHOT)
        match request.param:
            case "bytes":
                yield SNAPSHOT
            case "str":
                yield str(path)
            case "path":
                yield path
            case "file":
                with path.open("rb") as file:
                    yield file
                    assert not file.closed
            case _:
                stream = io.BytesIO(b"what was read before " + SNAPSHOT)
                stream.seek(21)
                yield stream

    def test_whatever_it_is_in(
        self, client: AnyClient, server: ContractServer, source: str | Path | bytes | BinaryIO
    ) -> None:
        with client.restore(source) as session:
            assert server.sessions.logs[session.id].token_ids == [1, 2, 3]
            assert session.recall("a").text == "bc"
        (put, *_) = server.received
        assert (put.method, put.path) == ("PUT", f"/sessions/{session.id}/snapshot")
        assert put.headers["content-type"] == BINARY
        assert put.headers["content-length"] == str(len(SNAPSHOT))
        assert "transfer-encoding" not in put.headers
        assert put.body == SNAPSHOT

    def test_one_without_an_id_is_deleted_at_the_end(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        with client.restore(SNAPSHOT) as session, client.restore(SNAPSHOT, keep=True) as kept:
            assert session.id != kept.id
        assert list(server.sessions.logs) == [kept.id]

    def test_one_with_an_id_is_left(self, client: AnyClient, server: ContractServer) -> None:
        for _ in range(2):  # also where it replaces another
            with client.restore(SNAPSHOT, ID) as session:
                assert session.id == ID
        assert list(server.sessions.logs) == [ID]

    def test_a_large_one_comes_in_pieces(
        self, client: AnyClient, server: ContractServer, tmp_path: Path
    ) -> None:
        (tmp_path / "large").write_bytes(LARGE)
        seen: list[tuple[int, int | None]] = []
        with pytest.raises(InvalidSnapshotError):
            client.restore(tmp_path / "large", progress=lambda *done: seen.append(done))
        n = len(LARGE)
        assert seen == [(0, n), (PIECE_BYTES, n), (2 * PIECE_BYTES, n), (n, n)]
        assert server.received[0].body == LARGE

    def test_an_empty_one(self, client: AnyClient, server: ContractServer) -> None:
        with pytest.raises(InvalidSnapshotError):
            client.restore(b"")
        assert server.received[0].headers["content-length"] == "0"

    def test_an_id_that_is_none(self, client: AnyClient, server: ContractServer) -> None:
        with pytest.raises(UnprocessableEntityError) as caught:
            client.restore(SNAPSHOT, "mine")
        assert caught.value.param == "id"
        with pytest.raises(InvalidRequestError):
            client.restore(SNAPSHOT, "..")
        assert len(server.received) == 1

    def test_after_a_refusal_it_is_sent_again_from_its_start(
        self, client: AnyClient, server: ContractServer, tmp_path: Path
    ) -> None:
        path = tmp_path / "chat"
        path.write_bytes(SNAPSHOT)
        server.answer_next(Canned(503, headers={"retry-after": "0"}))
        client.restore(path)
        assert [received.body for received in server.received] == [SNAPSHOT] * 2
        assert len({received.path for received in server.received}) == 1  # one id for both

    def test_a_file_that_is_not_there(self, client: AnyClient, server: ContractServer) -> None:
        with pytest.raises(FileNotFoundError):
            client.restore("no such file")
        assert server.received == []

    def test_a_file_that_shrinks(self, client: AnyClient) -> None:
        class Shrinking(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return super().read(size)[:3] if self.tell() == 0 else b""

        with pytest.raises(InvalidRequestError, match="cut short"):
            client.restore(Shrinking(SNAPSHOT))

    def test_a_refusal_before_all_is_sent(self, connect: Connect, tmp_path: Path) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(64 << 20)  # more than any buffer between here and there
        error = b'{"error": {"type": "body_too_large", "message": "too large", "param": null}}'
        head = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        reply = Reply(head % len(error) + error, before_body=True)
        with raw_server(reply) as server:
            with pytest.raises(RequestTooLargeError):
                connect(server.url, max_retries=0).restore(path)
            assert server.connections == 1
