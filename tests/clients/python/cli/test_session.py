"""What all commands of `causalrn session` have in common: failures, interrupts, help."""

import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from causalrn_client.cli import app
from tests.clients.python.cli.commands import PATIENCE_S, SNAPSHOT, Commands
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.contract_sessions import UNKNOWN
from tests.clients.python.raw_server import Reply, http_reply, raw_server

SESSION = Commands(app, "session")
run, refusal, started = SESSION.run, SESSION.refusal, SESSION.started


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
