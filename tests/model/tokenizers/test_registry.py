"""What all tokenizers have in common, and how files name them."""

from pathlib import Path
from typing import Any

import pytest

from causalrn.model.tokenizers.base import content_ids, special_tokens
from causalrn.model.tokenizers.registry import TOKENIZERS, describe_tokenizer, make_tokenizer
from causalrn.model.validation import InvalidValueError

VALUES: list[Any] = ["bytes", "letters", {"name": "alphabet", "symbols": "01"}]


def test_ids_are_those_of_the_trained_models() -> None:
    made = [make_tokenizer(name, Path()) for name in ("bytes", "letters")]
    ids = [(one.vocab_size, one.bos_id, one.sep_id, one.eos_id) for one in made]
    assert ids == [(259, 256, 257, 258), (29, 0, 1, 2)]


def test_names_are_those_of_the_registry() -> None:
    assert TOKENIZERS.names == ["alphabet", "bytes", "file", "letters"]
    assert all(TOKENIZERS.find(name).name == name for name in TOKENIZERS.names)


@pytest.mark.parametrize("value", VALUES)
def test_a_description_makes_the_same_tokenizer(value: Any) -> None:
    assert describe_tokenizer(make_tokenizer(value, Path())) == value


@pytest.mark.parametrize("value", VALUES)
def test_nothing_is_nothing(value: Any) -> None:
    tokenizer = make_tokenizer(value, Path())
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.stream_decoder().flush() == ""


@pytest.mark.parametrize("value", VALUES)
def test_every_id_has_a_name_of_its_own(value: Any) -> None:
    tokenizer = make_tokenizer(value, Path())
    names = [tokenizer.token(token_id) for token_id in range(tokenizer.vocab_size)]
    assert len(set(names)) == tokenizer.vocab_size
    specials = special_tokens(tokenizer)
    assert sorted(specials.values()) == ["<bos>", "<eos>", "<sep>"]
    assert {*content_ids(tokenizer)} == {*range(tokenizer.vocab_size)} - specials.keys()
    for token_id, token in enumerate(names):
        if token_id in specials:
            assert token == specials[token_id]
        elif "\ufffd" in tokenizer.decode([token_id]):
            assert token == f"bytes:\\x{token_id:02x}"
        else:
            assert token == tokenizer.decode([token_id])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["bytes"], r"must be a name, or a table with a name, got \['bytes'\]"),
        ({"symbols": "ab"}, "must be a name, or a table with a name"),
        ("byte", "there is no tokenizer 'byte'; .* did you mean 'bytes'"),
        ({"name": "alphabet"}, r"missing key tokenizer\.symbols"),
        (
            {"name": "alphabet", "symbols": "aba"},
            r"tokenizer\.symbols: character 'a' is there tw",
        ),
        ({"name": "alphabet", "symbols": "a\ud800"}, r"tokenizer\.symbols: .* valid string"),
        ({"name": "alphabet", "symbols": ""}, r"tokenizer\.symbols"),
        ({"name": "bytes", "size": 3}, r"unknown key tokenizer\.size"),
        ({"name": "file", "path": "none.json"}, "tokenizer: .*none.json: No such file"),
    ],
)
def test_what_cannot_be_made_is_refused(value: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=reason) as caught:
        make_tokenizer(value, tmp_path)
    assert caught.value.key[0] == "tokenizer"
