"""Commands that work on every line of a file."""

import io
import json
import signal
from pathlib import Path

import pytest
from rich.console import Console

from causalrn_client.cli import terminal
from causalrn_client.cli.remote import app
from tests.clients.python.cli.commands import PATIENCE_S, READY, Commands
from tests.clients.python.contract_server import GENERATION, Canned, ContractServer
from tests.clients.python.raw_server import Reply, raw_server
from tests.server.conftest import make_settings
from tests.server.fake_model import letters
from tests.server.live_server import LiveServer, serve

REMOTE = Commands(app, "remote")
run, printed, refusal, started = REMOTE.run, REMOTE.printed, REMOTE.refusal, REMOTE.started


class TestLines:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "lines"

    def test_each_has_its_place(self, server: ContractServer, file: Path) -> None:
        texts = [f"Zeile\u2028 {n} 🚄" for n in range(30)]
        file.write_text("\n".join(texts) + "\r\n")
        server.answer_next(Canned.of(READY))
        result = run("generate", "--lines", file, "--max-tokens", 50)
        assert (result.stdout.split("\n"), result.stderr) == ([*texts, ""], "")
        assert server.received[0].path == "/health"
        assert {r.body["max_tokens"] for r in server.received[1:]} == {50}

    def test_standard_input(self, server: ContractServer) -> None:
        server.answer_next(Canned.of(READY))
        assert printed("generate", "--lines", "-", stdin=b"a\nb") == "a\nb\n"

    def test_none(self, server: ContractServer) -> None:
        server.answer_next(Canned.of(READY))
        assert printed("generate", "--lines", "-") == ""

    def test_some_fail(self, server: ContractServer, file: Path) -> None:
        file.write_text("a\nb\nc\n")
        error = Canned.error(422, "invalid_request", "prompt: is\nodd", "prompt")
        server.answer_next(Canned.of(READY), error)
        result = run("generate", "--lines", file, "--concurrency", 1, exit_code=3)
        assert result.stdout == "\nb\nc\n"
        assert result.stderr == (
            "line 1: 422 invalid_request: prompt: is odd [request made-by-server]\n"
            "1 of 3 lines failed.\n"
        )

    def test_a_wrong_answer_is_printed_and_told(self, server: ContractServer, file: Path) -> None:
        file.write_text("hi\nho\nhi\n")
        right, wrong = (GENERATION | {"verified": verified} for verified in (True, False))
        for options in ([], ["--json"]):
            server.answer_next(Canned.of(READY), *map(Canned.of, (right, wrong, right)))
            command = ("generate", "--lines", file, "--concurrency", 1, *options)
            result = run(*command, exit_code=3)
            assert result.stdout.count("hi") == 3
            told = "" if options else "line 2: the answer is wrong\n"
            assert result.stderr == told + "1 of 3 lines failed.\n"
            server.answer_next(Canned.of(READY), *map(Canned.of, (right, wrong, right)))
            assert printed(*command, "--temperature", 1).count("hi") == 3

    def test_all_fail(self, server: ContractServer, file: Path) -> None:
        file.write_text("a\n" * 20)
        server.answer_next(Canned.of(READY), Canned.error(401, "unauthorized", "no"))
        result = run("generate", "--lines", file, "--concurrency", 1, exit_code=1)
        *told, last = result.stderr.splitlines()
        assert len(told) == 10
        assert "Give a key with --api-key or in CAUSALRN_API_KEY." in told[0]
        assert last == "error: all 20 lines failed"
        assert len(server.received) == 2

    def test_json(self, server: ContractServer, file: Path) -> None:
        file.write_text("a\nb\n")
        server.answer_next(Canned.of(READY), Canned.error(422, "invalid_request", "odd", "prompt"))
        result = run("generate", "--lines", file, "--json", "--concurrency", 1, exit_code=3)
        first, second = map(json.loads, result.stdout.splitlines())
        assert first == {
            "line": 1,
            "error": {
                "type": "UnprocessableEntityError",
                "message": "422 invalid_request: odd [request made-by-server]",
            },
        }
        assert (second["line"], second["text"], second["finish_reason"]) == (2, "b", "stop")
        assert result.stderr == "1 of 2 lines failed.\n"

    @pytest.mark.parametrize("as_json", [False, True])
    def test_interrupt_keeps_what_is_done(self, as_json: bool, file: Path) -> None:
        """The first line never gets an answer, the others do."""
        file.write_text("a\nb\nc\n")
        body = json.dumps(
            {
                "id": "g", "model": "m", "text": "done", "token_ids": [1], "finish_reason": "stop",
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()  # fmt: skip
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n"
        head += b"content-length: %d\r\n\r\n"
        ready = json.dumps(READY).encode()
        with raw_server(
            Reply(head % len(ready) + ready),
            Reply(then_silence=True),
            Reply(head % len(body) + body),
            Reply(head % len(body) + body),
            Reply(then_silence=True),
        ) as slow:
            file.write_text("a\nb\nc\nd\n")
            option = ["--json"] if as_json else []
            args = ["generate", "--lines", file, "--concurrency", 2, "--url", slow.url, *option]
            with started(*args) as process:
                while slow.connections < 5:
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                written, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        assert said == b"Interrupted: 2 of 4 lines are done.\n"
        if as_json:
            assert [json.loads(line)["text"] for line in written.splitlines()] == ["done"] * 2
        else:
            assert sorted(written.split(b"\n")) == [b"", b"", b"done", b"done"]

    def test_a_server_that_goes_away(self, file: Path) -> None:
        """Nobody is asked again and again where nobody is any more."""
        file.write_text("a\n" * 1000)
        ready = json.dumps(READY).encode()
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(ready)
        with raw_server(Reply(head + ready), goes_away=True) as gone:
            result = run(
                "generate", "--lines", file, "--url", gone.url, "--concurrency", 1, exit_code=1
            )
        assert "Start a server with `make serve`" in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_progress_is_for_terminals(
        self,
        server: ContractServer,
        file: Path,
        monkeypatch: pytest.MonkeyPatch,
        is_terminal: bool,
    ) -> None:
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=is_terminal, width=120)
        monkeypatch.setattr(terminal, "_console", console)
        file.write_text("abc\n" * 3)
        server.answer_next(Canned.of(READY), Canned(422))
        result = run("generate", "--lines", file, "--concurrency", 1, exit_code=3)
        assert result.stdout == "\nabc\nabc\n"
        display = shown.getvalue()
        for part in ("3/3", "1 failed", "tokens/s", "left"):
            assert (part in display) == (is_terminal or (part == "1 failed" and False))

    @pytest.mark.parametrize("other", [["text"], ["--file", __file__]])
    def test_two_sources(self, other: list[str], server: ContractServer, file: Path) -> None:
        file.write_text("a")
        assert "no two of them" in refusal("generate", *other, "--lines", file)
        assert server.received == []

    def test_what_cannot_be_read(self, file: Path) -> None:
        assert "no such file" in refusal("generate", "--lines", file).lower()

    def test_any_bytes(self, served: LiveServer, file: Path) -> None:
        """Those that are no text travel as ids, for a model whose ids are bytes."""
        data = b"a\n\xff\xfe \xc3\nn\xc3\xa9\r\n\nlast \x80"
        file.write_bytes(data)
        result = run("generate", "--lines", file, "--url", served.url, exit_code=3)
        assert result.stdout_bytes == data.replace(b"\r", b"") + b"\n"
        assert result.stderr.startswith("line 4: 422 invalid_request: prompt: must not be empty")

    def test_a_model_that_cannot_read_a_line_says_which(self, file: Path) -> None:
        file.write_bytes(b"abc\nde\xff\nfgh\n")
        with serve(letters(), make_settings()) as live:
            result = run("generate", "--lines", file, "--url", live.url, exit_code=3)
        assert result.stdout == "abc\n\nfgh\n"
        assert result.stderr.startswith("line 2: 422 invalid_request: token_ids[0]: must be")
