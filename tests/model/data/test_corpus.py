"""Documents as tokens: nothing is lost, some are held out, and the same data is read once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causalrn.model.data import corpus as corpus_module
from causalrn.model.data.corpus import Corpus, make_corpus
from causalrn.model.data.documents import Format
from causalrn.model.data.errors import DataError
from causalrn.model.data.survey import Survey, check_symbols, survey
from causalrn.model.tokenizers.alphabet import AlphabetTokenizer
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.model.tokenizers.byte import ByteTokenizer

BYTES = ByteTokenizer()
TEXTS = [f"document {n} é" for n in range(40)]


def ignore(doing: str, share: float) -> None:
    assert doing
    assert 0 <= share <= 1


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


def found_in(*paths: Path, form: Format | None = None) -> Survey:
    return survey(paths, form or Format(), ignore)


def corpus_of(
    folder: Path, found: Survey, tokenizer: Tokenizer = BYTES, held_out: float = 0.1
) -> Corpus:
    return make_corpus(folder / "data", found, Format(), tokenizer, held_out, ignore)


def documents(token_ids: Any, tokenizer: Tokenizer = BYTES) -> list[str]:
    texts: list[list[int]] = []
    for token_id in token_ids.tolist():
        if token_id == tokenizer.bos_id:
            texts.append([])
        elif token_id != tokenizer.eos_id:
            texts[-1].append(token_id)
    assert token_ids[-1] == tokenizer.eos_id
    return [tokenizer.decode(ids) for ids in texts]


def test_a_survey_counts(lines: Path) -> None:
    found = found_in(lines)
    assert found.files == [lines]
    assert found.n_documents == 40
    assert found.n_characters == sum(map(len, TEXTS))
    assert found.symbols == "".join(sorted({*"".join(TEXTS)}))


def test_nothing_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"a\.txt: there is no text"):
        found_in(tmp_path / "a.txt")


def test_every_document_is_in_one_part(lines: Path, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, found_in(lines))
    train, held_out = documents(corpus.train.token_ids), documents(corpus.validation.token_ids)
    assert (len(train), len(held_out)) == (36, 4)
    assert sorted(train + held_out) == sorted(TEXTS)
    assert held_out != sorted(TEXTS)[-4:]
    assert corpus.train.n_bytes + corpus.validation.n_bytes == len("".join(TEXTS).encode())
    expected = corpus.train.n_bytes / (corpus.train.n_bytes + 2 * 36)
    assert corpus.train.bytes_per_token == expected
    assert corpus.train.token_ids.dtype == np.uint16


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_at_least_one_document_is_held_out(lines: Path, tmp_path: Path, share: float) -> None:
    corpus = corpus_of(tmp_path, found_in(lines), held_out=share)
    assert len(documents(corpus.validation.token_ids)) == 1


@pytest.mark.parametrize("chunk", [5, 2**20])
def test_the_end_of_a_single_document_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("causalrn.model.data.documents._CHUNK", chunk)
    text = "".join(TEXTS)
    (tmp_path / "a.txt").write_text(text)
    corpus = corpus_of(tmp_path, found_in(tmp_path / "a.txt"), held_out=0.25)
    train, validation = (part.token_ids.tolist() for part in (corpus.train, corpus.validation))
    assert train[0] == BYTES.bos_id
    assert validation[-1] == BYTES.eos_id
    begin, end = BYTES.decode(train[1:]), BYTES.decode(validation[:-1])
    assert begin + end == text
    assert len(end) == round(0.25 * len(text))


def test_many_ids_take_four_bytes(lines: Path, tmp_path: Path) -> None:
    symbols = "".join(map(chr, range(0x20, 0xD000))) + "".join(map(chr, range(0x10000, 0x18000)))
    corpus = corpus_of(tmp_path, found_in(lines), AlphabetTokenizer(symbols))
    assert corpus.train.token_ids.dtype == np.uint32


def test_the_same_data_is_read_once(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = corpus_of(tmp_path, found_in(lines))
    with monkeypatch.context() as patched:
        patched.setattr(corpus_module, "_write", lambda *_: pytest.fail("is read again"))
        again = corpus_of(tmp_path, found_in(lines))
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.train.token_ids, first.train.token_ids)
    assert corpus_of(tmp_path, found_in(lines), held_out=0.2).fingerprint != first.fingerprint
    lines.write_text(json.dumps({"text": "others"}) + "\n" + json.dumps({"text": "more"}) + "\n")
    assert corpus_of(tmp_path, found_in(lines)).n_documents == 2


def test_what_was_cut_off_is_written_again(lines: Path, tmp_path: Path) -> None:
    first = corpus_of(tmp_path, found_in(lines))
    expected = first.train.token_ids.tolist()
    (tmp_path / "data" / "data.json").unlink()
    (tmp_path / "data" / "train.bin").write_bytes(b"12")
    assert corpus_of(tmp_path, found_in(lines)).train.token_ids.tolist() == expected


def test_data_that_changed_meanwhile_is_refused(lines: Path, tmp_path: Path) -> None:
    found = found_in(lines)
    lines.write_text(lines.read_text() + json.dumps({"text": "one more"}) + "\n")
    with pytest.raises(DataError, match="changed while it was read"):
        corpus_of(tmp_path, found)
    lines.write_text(json.dumps({"text": "a"}) + "\n")
    with pytest.raises(DataError, match="changed while it was read"):
        corpus_of(tmp_path, found)


def test_characters_beyond_an_alphabet_are_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc\ncab\nabc dc!\n")
    found = found_in(tmp_path / "a.txt")
    check_symbols(found, found.symbols)
    with pytest.raises(DataError, match=r"a\.txt, line 3: the data has the character '!'"):
        check_symbols(found, "abcd \n")
