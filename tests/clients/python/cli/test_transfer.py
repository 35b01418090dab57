"""Commands that save and restore sessions."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from causalrn_client.cli import app, terminal
from tests.clients.python.cli.commands import SNAPSHOT, Commands
from tests.clients.python.contract_server import ContractServer
from tests.clients.python.contract_sessions import UNKNOWN
from tests.clients.python.raw_server import Reply, http_reply, raw_server

SESSION = Commands(app, "session")
run, printed, refusal = SESSION.run, SESSION.printed, SESSION.refusal


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
