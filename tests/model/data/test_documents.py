"""Documents in files: what stands in them, and what is wrong with them."""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.data import documents
from causalrn.model.data.documents import Format, find_files, read_lines, read_pieces
from causalrn.model.data.errors import DataError

any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"))


def read(file: Path, form: Format | None = None) -> list[str]:
    """The documents of a file, each as a whole."""
    whole, parts = [], []
    for piece in read_pieces(file, form or Format()):
        assert piece.text
        parts.append(piece.text)
        if piece.is_last:
            whole.append("".join(parts))
            parts = []
    assert not parts
    return whole


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    data = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


@pytest.fixture(params=[1, 3, 7, 2**20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(documents, "_CHUNK", size)
    return size


@pytest.mark.usefixtures("chunk")
class TestTexts:
    TEXT = "one\ntwo é 😀\r\n\n  \nthree\n<|endoftext|>\nfour"

    @pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a", "a.md"])
    def test_a_file_is_a_document(self, tmp_path: Path, name: str) -> None:
        assert read(written(tmp_path, name, self.TEXT)) == [self.TEXT]

    def test_an_empty_one_is_none(self, tmp_path: Path) -> None:
        assert read(written(tmp_path, "a.txt", "")) == []

    def test_a_line_separates_documents(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.txt", self.TEXT)
        begin = "one\ntwo é 😀\r\n\n  \nthree\n"
        assert read(file, Format(separator="<|endoftext|>")) == [begin, "four"]
        assert read(file, Format(separator="---")) == [self.TEXT]

    def test_blank_lines_separate_documents(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.txt", f"\n\n{self.TEXT}\n\n")
        expected = ["one\ntwo é 😀\r\n", "three\n<|endoftext|>\nfour\n"]
        assert read(file, Format(separator="")) == expected

    def test_a_mark_of_byte_order_is_none_of_the_text(self, tmp_path: Path) -> None:
        assert read(written(tmp_path, "a.txt", b"\xef\xbb\xbfab")) == ["ab"]

    def test_lines_are_those_of_the_file(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.txt", self.TEXT)
        expected = ["one\n", "two é 😀\r\n", "\n", "  \n", "three\n", "<|endoftext|>\n", "four"]
        assert list(read_lines(file)) == expected

    @pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
    def test_what_is_no_utf8_is_told_by_line(self, tmp_path: Path, name: str) -> None:
        file = written(tmp_path, name, b"one\ntwo\n" + b"th\xffree\n")
        with pytest.raises(DataError, match=rf"^{file}, line 3: not UTF-8: byte 0xff$"):
            read(file)

    def test_half_a_character_at_the_end_is_no_utf8(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.txt", "one\ntwo 😀".encode()[:-1])
        with pytest.raises(DataError, match="line 2: not UTF-8: byte 0xf0"):
            read(file)


@pytest.mark.usefixtures("chunk")
class TestJsonLines:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
    def test_a_line_is_a_document(self, tmp_path: Path, name: str) -> None:
        texts = ["a\nb", "é 😀", "c"]
        lines = [json.dumps({"id": n, "text": text}) for n, text in enumerate(texts)]
        assert read(written(tmp_path, name, "\n".join([*lines, "", ""]))) == texts

    def test_the_field_can_be_chosen(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.jsonl", '{"text": "a", "body": "b"}\n{"body": ""}\n')
        assert read(file, Format(field="body")) == ["b"]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{", "not JSON: Expecting property name"),
            ("[1]", "must be a JSON object with the field 'text'"),
            ('{"body": "b"}', "there is no field 'text'; there are 'body'; see --field"),
            ("{}", "there is no field 'text'; there are none; see --field"),
            ('{"text": 3}', "the field 'text' must be a string, got 3"),
            ('{"text": "\\ud800"}', "the field 'text' holds a lone surrogate"),
        ],
    )
    def test_a_bad_line_is_told(self, tmp_path: Path, line: str, reason: str) -> None:
        file = written(tmp_path, "a.jsonl", f'{{"text": "a"}}\n\n{line}\n')
        with pytest.raises(DataError) as caught:
            read(file)
        assert str(caught.value).startswith(f"{file}, line 3: {reason}")


@given(documents_=st.lists(any_text.filter(bool)))
def test_json_lines_come_back(
    tmp_path_factory: pytest.TempPathFactory, documents_: list[str]
) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents_)
    folder = tmp_path_factory.mktemp("lines")
    assert read(written(folder, "a.jsonl", lines)) == documents_


@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(b"a" * 10_000)[:-20]], ids=["other", "cut off"]
)
def test_what_is_no_gzip_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a.txt.gz"
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"^{file}: not gzip, or cut off: "):
        read(file)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt: No such file"):
        read(tmp_path / "a.txt")


def test_folders_are_searched(tmp_path: Path) -> None:
    for name in ("b/c/2.txt", "b/1.txt", "b/.hidden/3.txt", "b/.4.txt", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = find_files([tmp_path / "b", tmp_path / "a.txt", tmp_path / "b" / ".4.txt"])
    relative = [os.fspath(file.relative_to(tmp_path)) for file in found]
    assert relative == ["b/1.txt", "b/c/2.txt", "a.txt", "b/.4.txt"]


def test_folders_without_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: there is no file in this folder"):
        find_files([tmp_path / "empty"])
    with pytest.raises(DataError, match="none: no such file or folder"):
        find_files([tmp_path / "none"])
