"""The commands that talk to a server: what they print, how they fail, how they are interrupted."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from causalrn_client.cli import terminal
from causalrn_client.cli.remote import app
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import Reply, raw_server

ROOT = Path(__file__).parents[3]
PATIENCE_S = 20.0
KEY = "crn-secret"
READY = {"status": "ready", "running": 1, "waiting": 2, "pages_used": 3, "pages_total": 4000}
MODEL = {
    "name": "copy-bytes",
    "status": "serving",
    "is_default": True,
    "fingerprint": "0123456789abcdef",
    "error": None,
}


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


def refusal(*args: object, stdin: bytes = b"") -> str:
    """The one line of a command that fails."""
    result = run(*args, stdin=stdin, exit_code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip("\n")


@contextmanager
def started(*args: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python" / "src")])
    with subprocess.Popen(
        [sys.executable, "-m", "causalrn_client.cli", "remote", *map(str, args)],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        assert process.poll() is not None, "the test left it running"


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

    def test_a_server_that_goes_away(self) -> None:
        event = b'data: {"id": "g", "model": "m", "text": "a", "token_ids": [97]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"
        with raw_server(Reply(head + event)) as cut:
            result = run("generate", "abc", "--url", cut.url, exit_code=1)
        assert (result.stdout, result.stderr.count("\n")) == ("a", 1)
        assert "broke in mid-stream" in result.stderr


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
        file.write_bytes(b"\xff")
        assert "not UTF-8" in refusal("generate", "--lines", file)


SCORED = {
    "id": "g", "model": "mine", "text": "b", "token_ids": [97, 98], "finish_reason": "length",
    "usage": {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2},
    "logprobs": [
        {"token_id": 97, "logprob": None, "top": []},
        {"token_id": 98, "logprob": -0.5, "top": [{"token_id": 98, "logprob": -0.5}]},
    ],
}  # fmt: skip


def tokens(*ids: int) -> Canned:
    return Canned.of({"count": len(ids), "max_model_len": 64, "tokens": ids})


class TestScore:
    ANSWERS = (tokens(97), tokens(98), Canned.of(SCORED))

    def test_two_texts(self, server: ContractServer) -> None:
        server.answer_next(*self.ANSWERS)
        lines = dict(
            line.split(maxsplit=1)
            for line in printed("score", "a", "b", "--model", "mine", "--mode", "raw").splitlines()
        )
        assert lines == {
            "model": "mine",
            "logprob": "-0.500000",
            "perplexity": "1.64872",
            "likeliest": "1 of 1 tokens",
        }
        assert [r.body["model"] for r in server.received] == ["mine"] * 3
        assert server.received[0].body["mode"] == "raw"

    def test_json(self, server: ContractServer) -> None:
        server.answer_next(*self.ANSWERS)
        written = json.loads(printed("score", "a", "b", "--json"))
        assert (written["logprob"], written["is_likeliest"]) == (-0.5, True)

    @pytest.mark.parametrize("as_json", [False, True])
    def test_lines(self, server: ContractServer, tmp_path: Path, as_json: bool) -> None:
        file = tmp_path / "pairs"
        file.write_text('{"prompt": "a", "completion": "b"}\n' * 2)
        failure = Canned.error(422, "invalid_request", "odd", "prompt")
        server.answer_next(Canned.of(READY), *self.ANSWERS, failure)
        option = ["--json"] if as_json else []
        result = run("score", "--lines", file, "--concurrency", 1, *option, exit_code=3)
        first, second = result.stdout.splitlines()
        if as_json:
            assert json.loads(first)["logprob"] == -0.5
            assert json.loads(second)["line"] == 2
        else:
            assert (first, second) == ("-0.500000", "")

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("", "line 1 is not JSON like"),
            ("[" * 100_000, "line 1 is not JSON like"),
            ("9" * 5000, "line 1 is not JSON like"),
            ("[]", "line 1 is not JSON like"),
            ('{"prompt": "a"}', "line 1 is not JSON like"),
            ('{"prompt": "a", "completion": "b", "c": 1}', "line 1 is not JSON like"),
            ('{"prompt": "a", "completion": 5}', "line 1: completion is not a text"),
        ],
    )
    def test_other_lines(self, server: ContractServer, line: str, reason: str) -> None:
        assert reason in refusal("score", "--lines", "-", stdin=f"{line}\n".encode())
        assert server.received == []

    def test_texts_are_missing(self, tmp_path: Path) -> None:
        (tmp_path / "pairs").write_text("")
        assert "give two texts" in refusal("score", "a")
        assert "not both" in refusal("score", "a", "b", "--lines", tmp_path / "pairs")
        assert "not UTF-8" in refusal("score", "a", os.fsdecode(b"\xff"))


class TestTokens:
    def test_tokenize(self, server: ContractServer) -> None:
        server.answer_next(tokens(256, 104, 257))
        assert printed("tokenize", "h", "--model", "mine") == "256 104 257\n"
        assert server.received[0].body == {
            "prompt": "h",
            "model": "mine",
            "add_special_tokens": True,
            "return_token_strs": False,
        }
        server.answer_next(tokens(104))
        written = printed("tokenize", "-", "--no-special", "--mode", "raw", "--json", stdin=b"h")
        assert json.loads(written)["tokens"] == [104]
        assert server.received[1].body == {
            "prompt": "h",
            "add_special_tokens": False,
            "mode": "raw",
            "return_token_strs": True,
        }

    @pytest.mark.parametrize(
        ("args", "stdin"), [(["104", "105"], b""), ([], b"104\n105 "), (["-"], b"104 105")]
    )
    def test_detokenize(self, server: ContractServer, args: list[str], stdin: bytes) -> None:
        server.answer_next(Canned.of({"prompt": "hi"}))
        assert printed("detokenize", *args, stdin=stdin) == "hi"
        assert server.received[0].body == {"tokens": [104, 105]}

    @pytest.mark.parametrize("word", ["x", "1.5", "٣", "9" * 5000])
    def test_what_is_no_id(self, server: ContractServer, word: str) -> None:
        assert refusal("detokenize", "1", word) == f"{word[:18]!r} is not a token id"
        assert server.received == []


class TestServer:
    def test_models(self, server: ContractServer) -> None:
        answer = Canned.of({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})
        server.answer_next(answer, answer)
        assert printed("models") == "a\nb\n"
        assert [one["id"] for one in json.loads(printed("models", "--json"))] == ["a", "b"]

    def test_models_of_administrators(self, server: ContractServer) -> None:
        broken = MODEL | {
            "name": "b", "status": "failed", "is_default": False, "error": "no\nfile"
        }  # fmt: skip
        answer = Canned.of({"models": [MODEL, broken]})
        server.answer_next(answer, answer)
        assert [line.split() for line in printed("models", "--all").splitlines()] == [
            ["copy-bytes", "serving", "(default)", "0123456789ab"],
            ["b", "failed", "no", "file"],
        ]
        assert len(json.loads(printed("models", "--all", "--json"))) == 2
        assert server.received[0].path == "/admin/models"

    def test_load_and_unload(self, server: ContractServer) -> None:
        server.answer_next(Canned.of(MODEL, 201), Canned.of(MODEL), Canned(204, b""))
        assert run("load", "copy-bytes").stderr == "copy-bytes is serving.\n"
        assert json.loads(printed("load", "copy-bytes", "--json"))["status"] == "serving"
        assert run("unload", "copy-bytes").stderr == "copy-bytes is served no more.\n"
        assert [r.method for r in server.received] == ["PUT", "PUT", "DELETE"]

    def test_load_fails(self, server: ContractServer) -> None:
        server.answer_next(Canned.error(403, "forbidden", "this needs an administrator's key"))
        assert "this needs an administrator's key" in refusal("load", "x")

    def test_info(self, server: ContractServer) -> None:
        lines = dict(line.split(maxsplit=1) for line in printed("info").splitlines())
        assert lines == {
            "model": "copy-bytes",
            "fingerprint": "00ff",
            "version": "9.9.9",
            "name": "bytes",
            "vocab_size": "259",
            "max_seq_len": "4096",
        }
        assert json.loads(printed("info", "--json", "--model", "x"))["moon_phase"] == "waxing"
        assert server.received[1].query == "model=x"

    def test_health(self, server: ContractServer) -> None:
        server.answer_next(Canned.of(READY), Canned.of(READY))
        assert printed("health") == "ready: 1 running, 2 waiting, 3 of 4,000 pages in use\n"
        assert json.loads(printed("health", "--json")) == READY
        server.answer_next(Canned.error(503, "shutting_down", "the server is shutting down"))
        assert "shutting down" in refusal("health")


COMMANDS: tuple[list[str], ...] = (
    ["generate", "x"],
    ["generate", "x", "--json"],
    ["generate", "--lines", __file__],
    ["score", "a", "b"],
    ["tokenize", "x"],
    ["detokenize", "1"],
    ["models"],
    ["models", "--all"],
    ["load", "x"],
    ["unload", "x"],
    ["info"],
    ["health"],
)
command = pytest.mark.parametrize(
    "command", COMMANDS, ids=[f"{n}-{c[0]}" for n, c in enumerate(COMMANDS)]
)


class TestFailure:
    @command
    def test_nobody_there(self, command: list[str], unused_url: str) -> None:
        told = refusal(*command, "--url", unused_url)
        assert told.startswith(f"no answer from {unused_url}")
        assert told.endswith("Start a server with `make serve`, or say with --url where one is.")

    @command
    def test_a_missing_key(self, command: list[str], server: ContractServer) -> None:
        server.answer_next(Canned.error(401, "unauthorized", "this server wants a key"))
        told = refusal(*command)
        assert told.endswith("Give a key with --api-key or in CAUSALRN_API_KEY.")
        assert len(server.received) == 1

    @command
    def test_a_limit(self, command: list[str], server: ContractServer) -> None:
        body = Canned.error(429, "rate_limited", "slow down").body
        server.answer_next(Canned(429, body, {"retry-after": "77"}))
        assert refusal(*command) == "429 rate_limited: slow down. Try again in 77 s."

    @command
    def test_another_program(self, command: list[str], server: ContractServer) -> None:
        server.answer_next(Canned(404, b"<html>"))
        assert "404" in refusal(*command)

    @command
    def test_no_address(self, command: list[str]) -> None:
        assert refusal(*command, "--url", "nowhere").startswith("--url: base_url must begin")

    def test_a_slow_server(self) -> None:
        with raw_server(Reply(then_silence=True)) as silent:
            with started("info", "--url", silent.url) as process:
                while silent.connections < 1:
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                assert process.communicate(timeout=PATIENCE_S) == (b"", b"")
            assert process.returncode == 130


class TestKey:
    @command
    def test_it_is_sent_and_not_shown(self, command: list[str], server: ContractServer) -> None:
        for args, env in ((["--api-key", KEY], {}), ([], {"CAUSALRN_API_KEY": KEY})):
            server.answer_next(Canned.error(403, "forbidden", "not for this key"))
            result = CliRunner().invoke(app, [*command, *args], env=env, catch_exceptions=False)
            assert KEY not in result.output
            assert server.received[-1].headers["authorization"] == f"Bearer {KEY}"
            server.reset()

    @pytest.mark.parametrize("key", ["", "two words"])
    def test_one_that_cannot_be(self, key: str) -> None:
        told = refusal("info", "--api-key", key)
        assert told.startswith("--api-key: api_key, or CAUSALRN_API_KEY, must be")

    def test_help_does_not_show_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CAUSALRN_API_KEY", KEY)
        assert KEY not in run("info", "--help").output


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_commands_explain_themselves(option: str) -> None:
    for name in {name for name, *_ in COMMANDS}:
        shown = run(name, option).stdout
        assert "--url" in shown
        assert "CAUSALRN_API_KEY" in shown


def test_options_left_out_are_not_sent(server: ContractServer) -> None:
    run("generate", "x", "--json")
    assert server.received[0].body == {"prompt": "x"}


class TestTerminal:
    def test_lines_appear_above_the_display(self, server: ContractServer, tmp_path: Path) -> None:
        file = tmp_path / "lines"
        file.write_text("first\nsecond\n")
        server.answer_next(Canned.of(READY))
        shown = on_terminal("generate", "--lines", file)
        assert shown.index("first\r\n") < shown.index("second\r\n") < shown.rindex("2/2")
        assert "tokens/s" in shown

    def test_a_file_gets_the_lines_and_nothing_else(
        self, server: ContractServer, tmp_path: Path
    ) -> None:
        (tmp_path / "lines").write_text("first\nsecond\n")
        server.answer_next(Canned.of(READY))
        with (tmp_path / "out").open("wb") as out:
            shown = on_terminal("generate", "--lines", tmp_path / "lines", stdout=out)
        assert (tmp_path / "out").read_bytes() == b"first\nsecond\n"
        assert "2/2" in shown
        assert "first" not in shown

    def test_the_shell_begins_a_line(self) -> None:
        assert on_terminal("generate", "abc") == "abc\r\n"


def on_terminal(*args: object, stdout: BinaryIO | None = None) -> str:
    """What a command, in a process of its own, shows on a terminal of 120 columns."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python" / "src")])
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "causalrn_client.cli", "remote", *map(str, args)],
        env=os.environ | {"PYTHONPATH": paths, "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=stdout or its,
        stderr=its,
    ) as process:
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # which is how the end of a terminal is told
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        assert process.wait(PATIENCE_S) == 0
    return shown.decode()
