"""`causalrn remote score`."""

import json
import os
from pathlib import Path

import pytest

from causalrn_client.cli.remote import app
from tests.clients.python.cli.commands import READY, Commands
from tests.clients.python.contract_server import Canned, ContractServer, tokens

REMOTE = Commands(app, "remote")
run, printed, refusal = REMOTE.run, REMOTE.printed, REMOTE.refusal

SCORED = {
    "id": "g", "model": "mine", "text": "b", "token_ids": [97, 98], "finish_reason": "length",
    "usage": {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2},
    "logprobs": [
        {"token_id": 97, "logprob": None, "top": []},
        {"token_id": 98, "logprob": -0.5, "top": [{"token_id": 98, "logprob": -0.5}]},
    ],
}  # fmt: skip


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
            ("", "line 1: not JSON like"),
            ("[" * 100_000, "line 1: not JSON like"),
            ("9" * 5000, "line 1: not JSON like"),
            ("[]", "line 1: not JSON like"),
            ('{"prompt": "a"}', "line 1: not JSON like"),
            ('{"prompt": "a", "completion": "b", "c": 1}', "line 1: not JSON like"),
            ('{"prompt": "a", "completion": 5}', "line 1: completion is not a text"),
        ],
    )
    def test_other_lines(self, server: ContractServer, line: str, reason: str) -> None:
        assert reason in refusal("score", "--lines", "-", stdin=f"{line}\n".encode())
        assert server.received == []

    @pytest.mark.parametrize("as_json", [False, True])
    def test_bad_lines(self, server: ContractServer, tmp_path: Path, as_json: bool) -> None:
        file = tmp_path / "pairs"
        good = b'{"prompt": "a", "completion": "b"}\n'
        file.write_bytes(good + b'{"prompt": "\xff", "completion": "b"}\nodd\n' + good)
        assert "line 2: not JSON like" in refusal("score", "--lines", file)
        assert server.received == []
        server.answer_next(Canned.of(READY), *self.ANSWERS, *self.ANSWERS)
        option = ["--json"] if as_json else []
        result = run(
            "score", "--lines", file, "--keep-going", "--concurrency", 1, *option, exit_code=3
        )
        lines = result.stdout.splitlines()
        if as_json:
            assert [json.loads(line)["line"] for line in lines] == [1, 2, 3, 4]
            assert ["error" in json.loads(line) for line in lines] == [False, True, True, False]
        else:
            assert lines == ["-0.500000", "", "", "-0.500000"]
            assert "line 2: not JSON" in result.stderr
            assert "line 3: not JSON" in result.stderr
        assert "2 of 4 lines failed" in result.stderr

    def test_texts_are_missing(self, tmp_path: Path) -> None:
        (tmp_path / "pairs").write_text("")
        assert "give two texts" in refusal("score", "a")
        assert "not both" in refusal("score", "a", "b", "--lines", tmp_path / "pairs")
        assert "not UTF-8" in refusal("score", "a", os.fsdecode(b"\xff"))
