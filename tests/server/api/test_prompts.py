from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from causalrn.server.api.schemas.generation_fields import Source
from causalrn.server.api.schemas.prompts import MAX_CHOICES, read_prompts

texts = st.text(max_size=5)
ids = st.lists(st.integers(), min_size=1, max_size=5)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
)


@given(texts)
def test_a_text_is_in_the_first_mode_of_the_model(text: str) -> None:
    assert read_prompts(text, None) == [Source("prompt", text, None)]


@given(ids)
def test_ids_are_read_as_they_are(ids: list[int]) -> None:
    assert read_prompts(ids, None) == [Source("prompt", ids, "raw")]


@given(st.lists(texts, min_size=1) | st.lists(ids, min_size=1))
def test_several_prompts_are_numbered(prompts: list[Any]) -> None:
    sources = read_prompts(prompts, None)
    assert [source.prompt for source in sources] == prompts
    assert [source.field for source in sources] == [f"prompt[{i}]" for i in range(len(prompts))]


@pytest.mark.parametrize("prompt", ["a", [1], ["a"], [[1]]])
def test_a_mode_that_is_asked_for_is_that_of_all_prompts(prompt: Any) -> None:
    assert {source.mode for source in read_prompts(prompt, "recall")} == {"recall"}


def is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(token_id) is int for token_id in value)


@given(any_json)
def test_only_text_ids_and_lists_of_them_are_prompts(value: Any) -> None:
    if isinstance(value, str) or is_ids(value):
        (source,) = read_prompts(value, None)
        assert source.prompt == value
    elif isinstance(value, list) and (
        all(isinstance(one, str) for one in value) or all(map(is_ids, value))
    ):
        assert [source.prompt for source in read_prompts(value, None)] == value
    else:
        with pytest.raises(PydanticCustomError, match=r"^prompt"):
            read_prompts(value, None)


def test_there_may_be_128_prompts_at_most() -> None:
    assert len(read_prompts(["a"] * MAX_CHOICES, None)) == MAX_CHOICES
    with pytest.raises(PydanticCustomError, match="at most 128"):
        read_prompts(["a"] * (MAX_CHOICES + 1), None)
