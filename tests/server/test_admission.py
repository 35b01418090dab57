import pytest

from server.admission import Admission
from server.block_allocator import BlockAllocator
from server.errors import InvalidRequestError, RequestTooLargeError
from server.scheduler import Scheduler
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel, letters


def make(model: FakeModel, *, n_pages: int = 64, max_tokens: int = 100) -> Admission:
    scheduler = Scheduler(BlockAllocator(n_pages, 16), n_slots=8, max_batch_tokens=32)
    return Admission(model, make_settings(max_tokens=max_tokens), scheduler)


def test_a_prompt_is_wrapped_and_gets_what_a_copy_needs() -> None:
    admission = make(FakeModel())
    assert admission.admit("hé", None) == ([256, 104, 195, 169, 257], 4)
    assert admission.admit([104], 7) == ([256, 104, 257], 7)


def test_the_default_is_capped_by_room_and_limit() -> None:
    assert make(FakeModel(max_seq_len=40)).admit("x" * 30, None)[1] == 8
    assert make(FakeModel(), max_tokens=10).admit("x" * 30, None)[1] == 10


def test_the_longest_prompt() -> None:
    admission = make(FakeModel(max_seq_len=40))
    assert admission.admit("x" * 37, None)[1] == 1
    with pytest.raises(InvalidRequestError, match="is 38 tokens long, this model takes at most 37"):
        admission.admit("x" * 38, None)
    with pytest.raises(InvalidRequestError, match="at most 8 after a prompt of 32") as refused:
        admission.admit("x" * 30, 9)
    assert refused.value.param == "max_tokens"


def test_what_the_pool_could_never_hold() -> None:
    admission = make(FakeModel(), n_pages=2)
    assert admission.admit("x" * 10, 21)[1] == 21  # 12 and 21 tokens, the last is never read
    with pytest.raises(RequestTooLargeError, match=r"may hold 33 tokens, .* holds 32"):
        admission.admit("x" * 10, 22)


@pytest.mark.parametrize(
    ("ids", "param", "message"),
    [
        ([1, 259], "token_ids[1]", "must be between 0 and 258"),
        ([-1], "token_ids[0]", "must be between 0 and 258"),
        ([10**400], "token_ids[0]", "must be between 0 and 258"),
        ([1, 2, 256], "token_ids[2]", "the special id BOS"),
        ([257], "token_ids[0]", "the special id SEP"),
        ([258], "token_ids[0]", "the special id EOS"),
    ],
)
def test_ids_that_are_not_content(ids: list[int], param: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as refused:
        make(FakeModel()).admit(ids, None)
    assert refused.value.param == param


def test_a_character_that_the_tokenizer_lacks() -> None:
    with pytest.raises(InvalidRequestError, match="character 'é' at position 2") as refused:
        make(letters()).admit("abé", None)
    assert refused.value.param == "prompt"
