"""`causalrn remote generate` for one text."""

import json
import os
import signal
from pathlib import Path

import pytest

from causalrn_client.cli.remote import app
from tests.clients.python.cli.commands import PATIENCE_S, Commands
from tests.clients.python.contract_server import GENERATION, Canned, ContractServer
from tests.clients.python.raw_server import Reply, raw_server
from tests.server.live_server import LiveServer

REMOTE = Commands(app, "remote")
run, printed, started = REMOTE.run, REMOTE.printed, REMOTE.started


class TestGenerate:
    @pytest.mark.parametrize("way", ["argument", "file", "stdin", "hyphen"])
    def test_text(self, tmp_path: Path, way: str) -> None:
        text = "Grüße\r\naus 東京\n"
        file = tmp_path / "text"
        file.write_bytes(text.encode())
        ways: dict[str, tuple[list[object], bytes]] = {
            "argument": ([text], b""),
            "file": (["--file", file], b""),
            "stdin": ([], text.encode()),
            "hyphen": (["-"], text.encode()),
        }
        args, stdin = ways[way]
        result = run("generate", *args, stdin=stdin)
        assert (result.stdout_bytes, result.stderr) == (text.encode(), "")

    @pytest.mark.parametrize("way", ["argument", "file", "stdin"])
    def test_any_bytes(self, served: LiveServer, tmp_path: Path, way: str) -> None:
        data = b"\xff not UTF-8 \xc3\x28 \x80"
        (tmp_path / "bytes").write_bytes(data)
        ways: dict[str, tuple[list[object], bytes]] = {
            "argument": ([os.fsdecode(data)], b""),
            "file": (["--file", tmp_path / "bytes"], b""),
            "stdin": ([], data),
        }
        args, stdin = ways[way]
        result = run("generate", *args, "--url", served.url, stdin=stdin)
        assert (result.stdout_bytes, result.stderr) == (data, "")

    def test_a_terminal_shows_what_it_must_not_obey(
        self, served: LiveServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("causalrn_client.cli.terminal._on_terminal", lambda: True)
        ask = ("generate", "--url", served.url)
        said = "\x1b[2Jné\r\u0085\u202e\tx\n"
        assert printed(*ask, said) == "\\x1b[2Jné\\r\\x85\\u202e\tx\n"
        assert run(*ask, "--raw", said).stdout_bytes == said.encode()
        assert printed(*ask, stdin=b"\xff\xc3") == "\\xff\\xc3\n"

    def test_options_are_sent(self, server: ContractServer) -> None:
        options = (
            "--model mine --mode raw --max-tokens 5 --min-tokens 2 --temperature 0.5 --top-k 3 "
            "--top-p 0.9 --min-p 0.1 --seed 1 --stop a --stop b --presence-penalty 0.1 "
            "--frequency-penalty 0.2 --repetition-penalty 1.1 --deadline 9"
        )
        run("generate", "x", *options.split())
        assert server.received[0].body == {
            "prompt": "x",
            "stream": True,
            "model": "mine",
            "mode": "raw",
            "max_tokens": 5,
            "min_tokens": 2,
            "temperature": 0.5,
            "top_k": 3,
            "top_p": 0.9,
            "min_p": 0.1,
            "seed": 1,
            "stop": ["a", "b"],
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "repetition_penalty": 1.1,
            "timeout": 9,
        }
        run("generate", "x")
        assert server.received[1].body == {"prompt": "x", "stream": True}

    def test_json(self, server: ContractServer) -> None:
        assert json.loads(printed("generate", "abc", "--json"))["text"] == "abc"
        assert "stream" not in server.received[0].body

    def test_text_comes_as_it_is_written(self, server: ContractServer) -> None:
        server.hold()
        with started("generate", "hello") as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"h"
            server.release()
            assert process.communicate(timeout=PATIENCE_S) == (b"ello", b"")
        assert process.returncode == 0

    def test_interrupt(self, server: ContractServer) -> None:
        server.hold()
        with started("generate", "hello") as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"h"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, said) == (130, b"")
        assert server.disconnected.get(timeout=PATIENCE_S) == "hello"

    def test_a_generation_that_the_server_ends(self, server: ContractServer) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunk = {"id": "g", "model": "m", "text": "a", "token_ids": [97], "usage": usage}
        server.answer_next(Canned.events(chunk | {"finish_reason": "abort"}, "[DONE]"))
        assert "abort" in run("generate", "abc", exit_code=1).stderr

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_a_wrong_copy(self, server: ContractServer, options: tuple[str, ...]) -> None:
        answer = GENERATION | {"verified": False}
        for _ in range(2):
            server.answer_next(
                Canned.of(answer) if options else Canned.events(answer | {"index": 0}, "[DONE]")
            )
        wrong = run("generate", "ho", *options, exit_code=5)
        assert "hi" in wrong.stdout
        assert wrong.stderr == (
            "warning: the answer is wrong: it is not the text, or not what the session has read\n"
        )
        # What is drawn at random may be anything.
        assert "hi" in printed("generate", "ho", "--temperature", 1, *options)

    def test_a_copy_that_cannot_fit(self, served: LiveServer) -> None:
        refused = run("generate", "x" * 3000, "--url", served.url, exit_code=1)
        assert "takes at most 2046 if the answer is to be whole" in refused.stderr
        part = ("generate", "x" * 500, "--max-tokens", 9, "--url", served.url)
        assert printed(*part) == "x" * 9

    def test_a_server_that_goes_away(self) -> None:
        event = b'data: {"id": "g", "model": "m", "text": "a", "token_ids": [97]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"
        with raw_server(Reply(head + event)) as cut:
            result = run("generate", "abc", "--url", cut.url, exit_code=1)
        assert (result.stdout, result.stderr.count("\n")) == ("a", 1)
        assert "broke in mid-stream" in result.stderr


def test_options_left_out_are_not_sent(server: ContractServer) -> None:
    run("generate", "x", "--json")
    assert server.received[0].body == {"prompt": "x"}
