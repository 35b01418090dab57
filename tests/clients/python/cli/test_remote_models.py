"""Commands about a server and its models."""

import json

from causalrn_client.cli.remote import app
from tests.clients.python.cli.commands import READY, Commands
from tests.clients.python.contract_server import Canned, ContractServer

REMOTE = Commands(app, "remote")
run, printed, refusal = REMOTE.run, REMOTE.printed, REMOTE.refusal

MODEL = {
    "name": "copy-bytes",
    "status": "serving",
    "is_default": True,
    "fingerprint": "0123456789abcdef",
    "error": None,
}


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
