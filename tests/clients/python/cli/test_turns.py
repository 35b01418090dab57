"""Commands that take a turn in a session."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from causalrn_client.cli import app
from tests.clients.python.cli.commands import PATIENCE_S, Commands
from tests.clients.python.contract_server import Canned, ContractServer
from tests.server.live_server import LiveServer

SESSION = Commands(app, "session")
run, printed, refusal, started = SESSION.run, SESSION.printed, SESSION.refusal, SESSION.started


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

    def test_any_bytes(self, served: LiveServer, tmp_path: Path) -> None:
        at = ("--url", served.url)
        with served.client() as plain:
            id = plain.post("/sessions").json()["id"]
        (tmp_path / "bytes").write_bytes(b"\xff\xfe and on")
        assert run("read", id, "--file", tmp_path / "bytes", *at).stdout == ""
        assert run("generate", id, *at, stdin=b"\x80").stdout_bytes == b"\x80"
        assert run("recall", id, os.fsdecode(b"\xff\xfe"), *at).stdout_bytes == b" and on"

    @pytest.fixture
    def own(self, served: LiveServer, monkeypatch: pytest.MonkeyPatch) -> str:
        """The id of a session of the project's own server, with which commands talk now."""
        monkeypatch.setenv("CAUSALRN_BASE_URL", served.url)
        with served.client() as plain:
            return str(plain.post("/sessions").json()["id"])

    def test_a_recall_that_finds_nothing(self, own: str) -> None:
        run("read", own, "hello there")
        for options in ([], ["--json"]):
            missed = run("recall", own, "help", *options, exit_code=4)
            assert missed.stderr.startswith("nothing found: the session has not read this")
            assert missed.stderr.count("\n") == 1
            if options:
                answer = json.loads(missed.stdout)
                assert (answer["finish_reason"], answer["match"]) == ("not_found", 0.75)
            else:
                assert missed.stdout == ""
        assert printed("recall", own, "hello") == " there"

    @pytest.mark.parametrize("command", [["recall"], ["generate", "--mode", "recall"]])
    def test_the_nearest_if_that_is_wanted(self, own: str, command: list[str]) -> None:
        run("read", own, "hello there")
        nearest = run(*command, own, "help", "--allow-partial", exit_code=5)
        assert nearest.stderr.startswith("warning: the answer is wrong: it is not the text, or not")

    def test_a_recall_of_something_else(self, own: str) -> None:
        for text in ("key: old", "key: new"):
            run("read", own, text)
        for options in ([], ["--json"]):
            wrong = run("recall", own, "key: ", *options, exit_code=5)
            assert "old" in wrong.stdout
            assert wrong.stderr.startswith("warning: the answer is wrong")

    def test_a_recall_that_is_cut_off(self, own: str) -> None:
        run("read", own, "key" + "x" * 300)
        cut = run("recall", own, "key", exit_code=3)
        assert cut.stdout == "x" * 256
        assert cut.stderr == (
            "warning: the answer is cut off after 256 tokens; --max-tokens allows for more\n"
        )
        assert printed("recall", own, "key", "--max-tokens", 9) == "x" * 9
        assert printed("generate", own, "", "--mode", "raw") == "x" * 16

    def test_a_file_that_is_not_there(self, id: str, tmp_path: Path) -> None:
        assert "no such file" in refusal("read", id, "--file", tmp_path / "none").lower()
