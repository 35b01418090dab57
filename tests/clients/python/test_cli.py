"""The commands about sessions: what they print, how they fail, how they are interrupted."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from causalrn_client.cli import app, terminal
from causalrn_client.cli.table import duration
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.contract_sessions import MAGIC
from tests.clients.python.raw_server import Reply, http_reply, raw_server

ROOT = Path(__file__).parents[3]
PATIENCE_S = 20.0
UNKNOWN = "ses-" + "f" * 32
SNAPSHOT = MAGIC + b'{"passages": ["abc"], "token_ids": [1, 2, 3]}'


@pytest.fixture(autouse=True)
def url(server: ContractServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CAUSALRN_BASE_URL", server.url)
    return server.url


def run(*args: object, stdin: bytes = b"", exit_code: int = 0) -> Result:
    """The command in this process; whatever it does not handle fails the test."""
    result = CliRunner().invoke(
        app, [str(arg) for arg in args], input=stdin, catch_exceptions=False
    )
    assert "Traceback" not in result.output
    assert result.exit_code == exit_code, result.output
    return result


def printed(*args: object, stdin: bytes = b"") -> str:
    """What a command prints, and nothing besides."""
    result = run(*args, stdin=stdin)
    assert result.stderr == ""
    return result.stdout


def refusal(*args: object, stdin: bytes = b"", after: str = "") -> str:
    """The one line of a command that fails, after what it has printed by then."""
    result = run(*args, stdin=stdin, exit_code=1)
    assert result.stdout == after
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip("\n")


@contextmanager
def started(*args: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python" / "src")])
    with subprocess.Popen(
        [sys.executable, "-m", "causalrn_client.cli", "session", *map(str, args)],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        assert process.poll() is not None, "the test left it running"


class TestManage:
    def test_create(self, server: ContractServer) -> None:
        id = printed("create").rstrip("\n")
        assert list(server.sessions.logs) == [id]
        assert json.loads(printed("create", "--ttl", 60, "--json"))["ttl_seconds"] == 60
        assert len(server.sessions.logs) == 2
        run("create", "--model", "mine")
        assert server.received[-1].body == {"model": "mine"}

    def test_list(self, server: ContractServer) -> None:
        ids = [server.sessions.add(busy=busy).id for busy in (False, True)]
        title, *rows = printed("list").splitlines()
        assert title.split() == ["ID", "TOKENS", "STATE", "BUSY", "AGE", "GONE", "IN"]
        assert [row.split()[:4] for row in rows] == [
            [ids[0], "0", "cold", "no"],
            [ids[1], "0", "cold", "yes"],
        ]
        assert [one["id"] for one in json.loads(printed("list", "--json"))] == ids

    def test_list_none(self) -> None:
        assert len(printed("list").splitlines()) == 1
        assert json.loads(printed("list", "--json")) == []

    def test_show(self, server: ContractServer) -> None:
        id = server.sessions.add(token_ids=[5, 6, 7]).id
        lines = dict(line.split(maxsplit=1) for line in printed("show", id).splitlines())
        assert (lines["id"], lines["tokens"], lines["state"]) == (id, "3", "warm, not busy")
        assert "5 6 7" not in printed("show", id)
        assert printed("show", id, "--token-ids").endswith("token ids   5 6 7\n")
        shown = json.loads(printed("show", id, "--json"))
        assert (shown["id"], "token_ids" in shown) == (id, False)
        assert json.loads(printed("show", id, "--json", "--token-ids"))["token_ids"] == [5, 6, 7]

    def test_delete(self, server: ContractServer) -> None:
        ids = [server.sessions.add().id for _ in range(3)]
        assert printed("delete", *ids[:2]) == ""
        assert list(server.sessions.logs) == ids[2:]
        assert ids[0] in refusal("delete", ids[0], ids[2])
        assert list(server.sessions.logs) == ids[2:]

    def test_fork(self, server: ContractServer) -> None:
        id = server.sessions.add(token_ids=[1, 2]).id
        child = printed("fork", id, "--ttl", 60).rstrip("\n")
        assert server.sessions.logs[child].token_ids == [1, 2]
        assert server.sessions.logs[child].ttl == 60
        assert json.loads(printed("fork", id, "--json"))["n_tokens"] == 2

    @pytest.mark.parametrize(
        ("seconds", "told"),
        [
            (-5, "0 s"),
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (5_399, "90 min"),
            (7_200, "2 h"),
            (604_799.5, "7 d"),
        ],
    )
    def test_durations(self, seconds: float, told: str) -> None:
        assert duration(seconds) == told


class TestTurns:
    @pytest.fixture
    def id(self, server: ContractServer) -> str:
        return server.sessions.add().id

    @pytest.mark.parametrize("way", ["argument", "file", "stdin"])
    def test_read_and_recall(
        self, server: ContractServer, id: str, tmp_path: Path, way: str
    ) -> None:
        text = "Grüße\r\naus 東京\n"
        file = tmp_path / "text"
        file.write_bytes(text.encode())
        ways: dict[str, dict[str, Any]] = {
            "argument": {"args": [text]},
            "file": {"args": ["--file", file]},
            "stdin": {"args": [], "stdin": text.encode()},
        }
        chosen = ways[way]
        result = run("read", id, *chosen["args"], stdin=chosen.get("stdin", b""))
        n_tokens = len(text.encode()) + 2
        assert (result.stdout, result.stderr) == ("", f"The session holds {n_tokens} tokens now.\n")
        assert server.received[0].body == {
            "prompt": text,
            "mode": "copy",
            "max_tokens": 0,
            "session_id": id,
        }
        recalled = CliRunner().invoke(app, ["recall", id, "Grü"], catch_exceptions=False)
        assert recalled.stdout_bytes == text.removeprefix("Grü").encode()

    def test_generate_copies_and_nothing_is_added(self, id: str, server: ContractServer) -> None:
        assert printed("generate", id, "Zürich 🚄") == "Zürich 🚄"
        assert server.received[0].body == {
            "prompt": "Zürich 🚄",
            "session_id": id,
            "stream": True,
        }

    def test_options_are_sent(self, id: str, server: ContractServer) -> None:
        options = (
            "--mode raw --max-tokens 5 --temperature 0.5 --top-k 3 --top-p 0.9 --seed 1 --wait"
        )
        assert printed("generate", id, "", *options.split()) == "..."
        assert server.received[0].body == {
            "prompt": "",
            "mode": "raw",
            "max_tokens": 5,
            "temperature": 0.5,
            "top_k": 3,
            "top_p": 0.9,
            "seed": 1,
            "session_id": id,
            "wait_for_session": True,
            "stream": True,
        }
        run("recall", id, "a", "--max-tokens", 7, "--wait")
        body = server.received[1].body
        assert (body["mode"], body["max_tokens"], body["wait_for_session"]) == ("recall", 7, True)
        run("read", id, "a", "--wait")
        assert server.received[2].body["wait_for_session"] is True

    @pytest.mark.parametrize("command", ["generate", "recall", "read"])
    def test_json(self, id: str, server: ContractServer, command: str) -> None:
        answer = json.loads(printed(command, id, "abc", "--json"))
        assert answer["session"]["id"] == id
        assert answer["text"] == ("abc" if command == "generate" else "")
        assert "stream" not in server.received[0].body

    def test_text_comes_as_it_is_written(self, id: str, server: ContractServer) -> None:
        server.hold()
        with started("generate", id, "hello") as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"h"
            assert process.poll() is None
            server.release()
            assert process.communicate(timeout=PATIENCE_S) == (b"ello", b"")
        assert process.returncode == 0

    def test_on_a_terminal_the_line_is_ended(
        self, id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("causalrn_client.cli.terminal._on_terminal", lambda: True)
        assert printed("generate", id, "abc") == "abc\n"
        assert printed("generate", id, "abc\n") == "abc\n"

    def test_a_generation_that_the_server_ends(self, id: str, server: ContractServer) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunk = {"id": "g", "model": "m", "text": "a", "token_ids": [97], "usage": usage}
        server.answer_next(Canned.events(chunk | {"finish_reason": "abort"}, "[DONE]"))
        assert "abort" in refusal("generate", id, "abc", after="a")

    def test_an_error_in_mid_stream(self, id: str, server: ContractServer) -> None:
        chunk = {"id": "g", "model": "m", "text": "a", "token_ids": [97], "finish_reason": None}
        error = {"type": "session_not_found", "message": "it was\ndeleted", "param": None}
        server.answer_next(Canned.events(chunk, {"error": error}))
        told = refusal("recall", id, "abc", after="a")
        assert told == "session_not_found: it was deleted"

    def test_two_texts(self, id: str, server: ContractServer) -> None:
        assert "not both" in refusal("read", id, "abc", "--file", __file__)
        assert server.received == []

    def test_what_is_no_text(self, id: str, tmp_path: Path, server: ContractServer) -> None:
        (tmp_path / "bytes").write_bytes(b"\xff")
        for result in (
            refusal("read", id, "--file", tmp_path / "bytes"),
            refusal("generate", id, stdin=b"\xff"),
            refusal("recall", id, os.fsdecode(b"\xff")),
        ):
            assert result.startswith("the text is not UTF-8")
        assert "no such file" in refusal("read", id, "--file", tmp_path / "none").lower()
        assert server.received == []


class TestTransfer:
    def test_there_and_back(self, server: ContractServer, tmp_path: Path) -> None:
        id = server.sessions.add(token_ids=[1, 2]).id
        file = tmp_path / "chat.safetensors"
        result = run("snapshot", id, file)
        assert result.stdout == ""
        assert result.stderr == f"Saved in {file}: {file.stat().st_size} bytes.\n"
        restored = printed("restore", file).rstrip("\n")
        assert server.sessions.logs[restored].token_ids == [1, 2]
        assert printed("restore", file, "--id", id) == f"{id}\n"
        assert json.loads(printed("restore", file, "--json"))["n_tokens"] == 2
        assert len(server.sessions.logs) == 3

    def test_a_file_named_after_the_session(
        self, server: ContractServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        id = server.sessions.add().id
        run("snapshot", id)
        assert [path.name for path in tmp_path.iterdir()] == [f"{id}.safetensors"]

    def test_no_file_is_left_of_a_failure(self, tmp_path: Path) -> None:
        assert "session_not_found" in refusal("snapshot", UNKNOWN, tmp_path / "chat")
        whole = http_reply(SNAPSHOT, "application/octet-stream").content
        with raw_server(Reply(whole[:-5])) as cut:
            told = refusal("snapshot", UNKNOWN, tmp_path / "chat", "--url", cut.url)
        assert "broke" in told
        assert list(tmp_path.iterdir()) == []
        assert str(tmp_path) in refusal("snapshot", UNKNOWN, tmp_path)

    def test_a_file_that_cannot_be_restored(self, tmp_path: Path) -> None:
        assert "none" in refusal("restore", tmp_path / "none")
        (tmp_path / "odd").write_text("odd")
        assert "invalid_snapshot" in refusal("restore", tmp_path / "odd")

    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_progress_is_for_terminals(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
    ) -> None:
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=is_terminal, width=120)
        monkeypatch.setattr(terminal, "_console", console)
        (tmp_path / "chat").write_bytes(SNAPSHOT)
        run("restore", tmp_path / "chat")
        n = len(SNAPSHOT)
        assert (f"{n}/{n} bytes" in shown.getvalue()) == is_terminal
        assert is_terminal or shown.getvalue() == ""


class TestFailure:
    COMMANDS = (
        ["create"],
        ["list"],
        ["list", "--json"],
        ["show", UNKNOWN],
        ["delete", UNKNOWN],
        ["fork", UNKNOWN],
        ["generate", UNKNOWN, "x"],
        ["recall", UNKNOWN, "x", "--json"],
        ["read", UNKNOWN, "x"],
        ["snapshot", UNKNOWN, "never-written"],
        ["restore", __file__],
    )

    @pytest.mark.parametrize(
        "command", COMMANDS, ids=[f"{n}-{c[0]}" for n, c in enumerate(COMMANDS)]
    )
    def test_nobody_there(self, command: list[str], unused_url: str) -> None:
        titles = 1 if command == ["list"] else 0
        result = run(*command, "--url", unused_url, exit_code=1)
        assert result.stdout.count("\n") == titles
        assert result.stderr.startswith(f"error: no answer from {unused_url}")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        "command", COMMANDS, ids=[f"{n}-{c[0]}" for n, c in enumerate(COMMANDS)]
    )
    def test_a_refusal_is_told_at_once(self, command: list[str], server: ContractServer) -> None:
        error = Canned.error(503, "session_store_unavailable", "the disk is full")
        server.answer_next(Canned(503, error.body, {"retry-after": "60"}))
        result = run(*command, exit_code=1)
        assert result.stderr == "error: 503 session_store_unavailable: the disk is full\n"
        assert len(server.received) == 1

    @pytest.mark.parametrize(
        "command", COMMANDS, ids=[f"{n}-{c[0]}" for n, c in enumerate(COMMANDS)]
    )
    def test_the_key_is_sent_and_not_shown(
        self, command: list[str], server: ContractServer
    ) -> None:
        for args, env in ((["--api-key", "crn-1"], {}), ([], {"CAUSALRN_API_KEY": "crn-1"})):
            server.answer_next(Canned.error(403, "forbidden", "not for this key"))
            result = CliRunner().invoke(app, [*command, *args], env=env, catch_exceptions=False)
            assert result.exit_code == 1
            assert "crn-1" not in result.output
            assert server.received[-1].headers["authorization"] == "Bearer crn-1"

    def test_no_address(self) -> None:
        assert refusal("list", "--json", "--url", "nowhere").startswith(
            "--url: base_url must begin"
        )

    def test_a_wrong_option_is_a_usage_error(self) -> None:
        assert "--tll" in run("create", "--tll", "3", exit_code=2).stderr


class TestInterrupt:
    def test_of_a_generation(self, server: ContractServer) -> None:
        id = server.sessions.add().id
        server.hold()
        with started("generate", id, "hello") as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"h"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, said) == (130, b"")
        assert server.disconnected.get(timeout=PATIENCE_S) == "hello"

    def test_of_a_snapshot(self, tmp_path: Path) -> None:
        half = http_reply(SNAPSHOT, "application/octet-stream").content[:-5]
        with raw_server(Reply(half, then_silence=True)) as stalled:
            target = tmp_path / "chat"
            with started("snapshot", UNKNOWN, target, CAUSALRN_BASE_URL=stalled.url) as process:
                while not list(tmp_path.iterdir()):
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, said) == (130, b"")
        assert list(tmp_path.iterdir()) == []

    def test_of_a_pipe(self, server: ContractServer) -> None:
        for _ in range(2000):
            server.sessions.add()
        with started("list") as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"ID ")
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == b""
            assert process.wait(PATIENCE_S) == 1


def test_without_arguments_the_commands_are_shown() -> None:
    shown = CliRunner().invoke(app, []).output
    names = "create list show delete fork snapshot restore generate read recall"
    assert all(name in shown for name in names.split())


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_commands_explain_themselves(option: str) -> None:
    for command in ("list", "generate", "restore"):
        assert "--url" in run(command, option).stdout
