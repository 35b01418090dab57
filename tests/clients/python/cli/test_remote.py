"""What all commands of `causalrn remote` have in common: failures, keys, help, a terminal."""

import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from causalrn_client.cli.remote import app
from tests.clients.python.cli.commands import PATIENCE_S, READY, Commands
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import Reply, raw_server

REMOTE = Commands(app, "remote")
run, refusal = REMOTE.run, REMOTE.refusal
started, on_terminal = REMOTE.started, REMOTE.on_terminal

KEY = "crn-secret"
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
