"""Commands that make, list, show, delete and fork sessions."""

import json

import pytest

from causalrn_client.cli import app
from causalrn_client.cli.table import duration
from tests.clients.python.cli.commands import Commands
from tests.clients.python.contract_server import ContractServer

SESSION = Commands(app, "session")
run, printed, refusal = SESSION.run, SESSION.printed, SESSION.refusal


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
