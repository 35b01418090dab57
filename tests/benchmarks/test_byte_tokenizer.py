"""The byte tokenizer in the format of Hugging Face agrees with the one that models have."""

from pathlib import Path

import pytest

from benchmarks.byte_tokenizer import characters, write
from causalrn.model.tokenizers.byte import ByteTokenizer

# All bytes that occur in UTF-8, spaces at the edges, and what looks like a special token's middle.
TEXTS = ["", " a  b\r\n\t", "bos>", *("".join(map(chr, range(i, i + 0x400))) for i in (0, 0x1000))]
TEXTS += ["𝄞😀\U0010ffff"]


def test_bytes_stand_for_what_the_format_writes() -> None:
    found = characters()
    assert len(set(found)) == 256
    assert "".join(found[byte] for byte in " \n\0A~é\x7f".encode()) == "ĠĊĀA~Ã©ġ"


def test_ids_and_text_are_those_of_the_byte_tokenizer(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    write(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = ByteTokenizer()
    assert theirs.get_vocab_size() == ours.vocab_size
    for text in TEXTS:
        ids = theirs.encode(text).ids
        assert ids == ours.encode(text)
        assert theirs.decode(ids) == text
    for special in (ours.bos_id, ours.sep_id, ours.eos_id):
        assert theirs.id_to_token(special) == ours.token(special)
