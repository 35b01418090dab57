"""Tokenizers from files of Hugging Face's library, made here by the library itself."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from causalrn.model.tokenizers.base import TokenizerError
from causalrn.model.tokenizers.file import FileParams, FileTokenizer
from tests.model.tokenizers.pieces import in_pieces

TEXTS = ["the cat sat on the mat, and the café sat on the cat 😀😀", "über den Wolken 東京"] * 4


def byte_level() -> Library:
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<eos>", "<pad>"],
        show_progress=False,
    )
    library.train_from_iterator(TEXTS, trainer)
    return library


def word_piece() -> Library:
    library = Library(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=60, special_tokens=["[UNK]"], show_progress=False
    )
    library.train_from_iterator(TEXTS, trainer)
    return library


BYTE_LEVEL = FileTokenizer(byte_level().to_str())
WORD_PIECE = FileTokenizer(word_piece().to_str())
ids = st.lists(st.integers(0, BYTE_LEVEL.vocab_size - 1), max_size=24)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_a_byte_level_file(text: str) -> None:
    encoded = BYTE_LEVEL.encode(text)
    assert len(encoded) <= len(text.encode())
    assert BYTE_LEVEL.decode(encoded) == text
    assert len(text) <= BYTE_LEVEL.longest * len(encoded)


def test_words_become_fewer_tokens_than_characters() -> None:
    assert len(BYTE_LEVEL.encode("the cat sat on the mat")) < 12


def test_special_ids_follow_those_of_the_file() -> None:
    n = byte_level().get_vocab_size()
    assert (BYTE_LEVEL.bos_id, BYTE_LEVEL.sep_id, BYTE_LEVEL.eos_id) == (n, n + 1, n + 2)
    assert BYTE_LEVEL.vocab_size == n + 3
    assert BYTE_LEVEL.decode([n, *BYTE_LEVEL.encode("cat"), n + 2]) == "cat"
    assert max(BYTE_LEVEL.encode("<eos><pad>")) < n


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, WORD_PIECE])
@settings(max_examples=300)
@given(data=st.data())
def test_a_stream_gives_the_whole(tokenizer: FileTokenizer, data: st.DataObject) -> None:
    whole = data.draw(st.lists(st.integers(0, tokenizer.bos_id - 1), max_size=24))
    cuts = data.draw(st.lists(st.integers(0, 1000), max_size=8))
    stream = tokenizer.stream_decoder()
    text = "".join([stream.push(piece) for piece in in_pieces(whole, cuts)])
    assert text + stream.flush() == tokenizer.decode(whole)


@given(ids)
def test_special_ids_end_a_character(drawn: list[int]) -> None:
    stream = BYTE_LEVEL.stream_decoder()
    assert stream.push(drawn) + stream.flush() == BYTE_LEVEL.decode(drawn)


@pytest.mark.parametrize("text", ["é", "😀", "a東"])
def test_a_stream_may_begin_within_a_character(text: str) -> None:
    letters = FileTokenizer(byte_level_without_merges().to_str())
    encoded = letters.encode(text)
    for cut in range(len(encoded)):
        stream = letters.stream_decoder(after=encoded[:cut])
        told = letters.stream_decoder().push(encoded[:cut])
        assert told + stream.push(encoded[cut:]) + stream.flush() == text


def byte_level_without_merges() -> Library:
    library = byte_level()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.model = models.BPE(dict(zip(alphabet, range(256), strict=True)), [])
    return library


def test_every_id_has_a_name_of_its_own() -> None:
    for tokenizer in (BYTE_LEVEL, WORD_PIECE):
        names = [tokenizer.token(i) for i in range(tokenizer.vocab_size)]
        assert len(set(names)) == len(names)
    assert names[-3:] == ["<bos>", "<sep>", "<eos>"]


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(TokenizerError, match="lone surrogate") as caught:
        BYTE_LEVEL.encode("né\udfff")
    assert caught.value.position == 2


def test_a_tokenizer_is_saved_with_its_model(tmp_path: Path) -> None:
    WORD_PIECE.save(tmp_path)
    params = WORD_PIECE.params
    assert isinstance(params, FileParams)
    again = FileTokenizer.make(params, tmp_path)
    assert again.encode("the CAT") == WORD_PIECE.encode("the CAT")
    BYTE_LEVEL.save(tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer\.json: is another tokenizer"):
        FileTokenizer.make(params, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"\xff", "is no UTF-8"), (b"{}", "is no tokenizer: ")],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "mine.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"mine\.json: {reason}"):
        FileTokenizer.make(FileParams(path="mine.json"), tmp_path)
