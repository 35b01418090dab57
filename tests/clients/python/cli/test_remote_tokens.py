"""`causalrn remote tokenize` and `detokenize`."""

import json

import pytest

from causalrn_client.cli.remote import app
from tests.clients.python.cli.commands import Commands
from tests.clients.python.contract_server import Canned, ContractServer, tokens

REMOTE = Commands(app, "remote")
printed, refusal = REMOTE.printed, REMOTE.refusal


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
