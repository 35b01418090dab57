from collections.abc import Sequence as Items

import pytest

from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.server.engine.admission import Admission
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.pool import Pool
from causalrn.server.engine.reservations import Reservations
from causalrn.server.engine.scheduler import Scheduler
from causalrn.server.engine.ticket import Context
from causalrn.server.errors import (
    InvalidRequestError,
    OverloadedError,
    RequestTooLargeError,
    SessionFullError,
)
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel, letters


def make(
    model: FakeModel,
    *,
    n_pages: int = 64,
    max_tokens: int = 100,
    reservations: Reservations | None = None,
) -> Admission:
    scheduler = Scheduler(Pool(n_pages, 16), n_slots=8, max_batch_tokens=32)
    settings = make_settings(max_tokens=max_tokens)
    return Admission(model, settings, scheduler, 100, reservations or room())


def room(max_samples: int = 24, max_bytes: int = 10**9) -> Reservations:
    return Reservations(max_samples=max_samples, max_bytes=max_bytes)


def admit(
    admission: Admission, source: str | list[int], max_tokens: int | None = None
) -> tuple[list[int], int | None]:
    """The framed prompt and the tokens to generate at most."""
    ticket = admission.admit(source, GenerationParams(max_tokens))
    return ticket.prompt, ticket.params.max_tokens


def test_a_prompt_is_wrapped_and_gets_what_a_copy_needs() -> None:
    admission = make(FakeModel())
    assert admit(admission, "hé") == ([256, 104, 195, 169, 257], 4)
    assert admit(admission, [104], 7) == ([256, 104, 257], 7)


def test_the_default_is_capped_by_room_and_limit() -> None:
    recall = GenerationParams(mode="recall")
    long = Context("a session", [1] * 30)
    for model, limit, default in (
        (FakeModel(recall=True), 300, 31),
        (FakeModel(recall=True), 10, 10),
        (FakeModel(recall=True, max_seq_len=40), 300, 7),
    ):
        ticket = make(model, max_tokens=limit).admit("x", recall, long)
        assert ticket.params.max_tokens == default


WHOLE = " if the answer is to be whole; shorten it, or send 'max_tokens' for a part"


@pytest.mark.parametrize(
    ("model", "limit", "most"),
    [
        (FakeModel(max_seq_len=40), 100, 18),
        (FakeModel(max_seq_len=41), 100, 19),
        (FakeModel(), 10, 9),
    ],
)
def test_a_copy_that_cannot_be_whole_is_refused(model: FakeModel, limit: int, most: int) -> None:
    admission = make(model, max_tokens=limit)
    assert admit(admission, "x" * most)[1] == most + 1
    for source, param in (("x" * (most + 1), "prompt"), ([120] * (most + 1), "token_ids")):
        said = f"is {most + 1} tokens long, this model takes at most {most}{WHOLE}"
        with pytest.raises(InvalidRequestError, match=said) as refused:
            admit(admission, source)
        assert refused.value.param == param
    assert admit(admission, "x" * (most + 1), most)[1] == most  # a part, as it was asked for


def test_a_copy_that_cannot_be_whole_in_its_session_is_refused() -> None:
    context, ask = Context("a session", [1] * 10), GenerationParams()
    admission = make(FakeModel(max_seq_len=40))
    assert admission.admit("x" * 13, ask, context).params.max_tokens == 14
    said = f"is 14 tokens long; the session has 10 already, it takes at most 13 more{WHOLE}"
    with pytest.raises(SessionFullError, match=said):
        admission.admit("x" * 14, ask, context)
    with pytest.raises(SessionFullError, match="the session has 38 already, it is full; begin"):
        admission.admit("x", ask, Context("a session", [1] * 38))
    limited = make(FakeModel(), max_tokens=10)  # no other session would take it either
    with pytest.raises(InvalidRequestError, match=f"10 tokens long, .* takes at most 9{WHOLE}"):
        limited.admit("x" * 10, ask, context)


def test_a_prompt_longer_than_the_model_takes_is_refused() -> None:
    admission = make(FakeModel(max_seq_len=40))
    assert admit(admission, "x" * 37, 1)[1] == 1
    said = r"is 38 tokens long, this model takes at most 37$"
    with pytest.raises(InvalidRequestError, match=said):
        admit(admission, "x" * 38, 1)
    with pytest.raises(InvalidRequestError, match="at most 8 after a prompt of 32") as refused:
        admit(admission, "x" * 30, 9)
    assert refused.value.param == "max_tokens"


def test_a_request_that_the_pool_could_never_hold_is_too_large() -> None:
    admission = make(FakeModel(), n_pages=2)
    assert admit(admission, "x" * 10, 21)[1] == 21  # 12 and 21 tokens, the last is never read
    with pytest.raises(RequestTooLargeError, match=r"may hold 33 tokens, .* holds 32"):
        admit(admission, "x" * 10, 22)


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
def test_ids_that_are_not_content_are_refused(ids: list[int], param: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as refused:
        admit(make(FakeModel()), ids)
    assert refused.value.param == param


def test_a_character_that_the_tokenizer_lacks() -> None:
    with pytest.raises(InvalidRequestError, match="character 'é' at position 2") as refused:
        admit(make(letters()), "abé")
    assert refused.value.param == "prompt"


class Echoing(Copying):
    """Two modes of its own: `shout` frames a prompt with BOS twice, `follow` needs a context."""

    @property
    def modes(self) -> tuple[str, ...]:
        return ("shout", "follow")

    def frame(self, ids: Items[int], mode: str) -> list[int]:
        return [256, 256, *ids] if mode == "shout" else [257, *ids]

    def needs_context(self, mode: str) -> bool:
        return mode == "follow"

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:
        return 3 * n_prompt if mode == "shout" else n_context


@pytest.fixture
def echoing() -> FakeModel:
    model = FakeModel()
    model.task = Echoing(CopyingParams(max_length=1), model.tokenizer, model.config)
    return model


def test_the_task_frames_prompts_and_says_how_long_answers_get(echoing: FakeModel) -> None:
    admission = make(echoing)

    def admitted(mode: str | None, n_context: int | None = None) -> tuple[list[int], int | None]:
        context = None if n_context is None else Context("a session", [1] * n_context)
        ticket = admission.admit("hi", GenerationParams(mode=mode), context)
        return ticket.prompt, ticket.params.max_tokens

    assert admitted(None) == admitted("shout") == ([256, 256, 104, 105], 6)
    assert admitted("follow", n_context=30) == ([257, 104, 105], 30)
    assert admitted("raw") == ([104, 105], 16)


def test_a_mode_that_needs_a_context_needs_a_session(echoing: FakeModel) -> None:
    admission = make(echoing)
    with pytest.raises(InvalidRequestError, match="mode: 'follow' needs a 'session_id'") as refused:
        admission.admit("hi", GenerationParams(mode="follow"))
    assert refused.value.param == "mode"
    admission.admit("hi", GenerationParams(mode="follow", max_tokens=1), Context("a session", []))


@pytest.mark.parametrize("mode", ["copy", "recall", ""])
def test_a_mode_that_the_task_lacks(echoing: FakeModel, mode: str) -> None:
    kept = room()
    admission = make(echoing, reservations=kept)
    said = (
        f"mode: fake-copy was not trained for '{mode}'; its modes are 'shout', 'follow' and 'raw'"
    )
    with pytest.raises(InvalidRequestError, match=said) as refused:
        admission.admit("hi", GenerationParams(mode=mode))
    assert refused.value.param == "mode"
    assert kept.n_samples == 0


def test_room_is_kept_until_it_is_given_back() -> None:
    kept = room()
    admission = make(FakeModel(), reservations=kept)
    first = admission.admit("x" * 30, GenerationParams(n=2))
    assert (kept.n_samples, kept.n_bytes) == (2, 2 * 4 * 100)
    second = admission.admit("x", GenerationParams(max_tokens=1))
    assert (kept.n_samples, kept.n_bytes) == (3, 900)
    kept.release(first.id)
    kept.release(second.id)
    assert (kept.n_samples, kept.n_bytes) == (0, 0)


def test_a_context_takes_room_too() -> None:
    kept = room()
    context = Context("a session", [1] * 100)
    ticket = make(FakeModel(), reservations=kept).admit("x", GenerationParams(), context)
    assert (ticket.n_context, ticket.n_read) == (100, 103)
    assert kept.n_bytes == 7 * 100  # 100 and 3 tokens, and one of two more: pages of 16


def test_a_refused_request_keeps_no_room() -> None:
    kept = room()
    admission = make(FakeModel(), reservations=kept)
    for source in ("\ud800", [256], "x" * 5000):
        with pytest.raises(InvalidRequestError):
            admission.admit(source, GenerationParams())
        assert (kept.n_samples, kept.n_bytes) == (0, 0)


def test_bytes_are_reserved_page_by_page() -> None:
    kept = room(max_bytes=8 * 12 * 32 * 100)
    admission = make(FakeModel(), reservations=kept)
    one_page = GenerationParams(max_tokens=1)
    admission.admit("x" * 500, GenerationParams(max_tokens=1, n=12))
    admission.admit("x", one_page)
    assert kept.n_bytes == (12 * 32 + 1) * 100
    for _ in range(7):
        with pytest.raises(OverloadedError):
            admission.admit("x" * 500, GenerationParams(max_tokens=1, n=97))


def test_all_are_admitted_or_none() -> None:
    kept = room()
    admission = make(FakeModel(), reservations=kept)
    one = ("x", GenerationParams(n=4))
    tickets = admission.admit_all([one, one], owner="alice")
    assert [ticket.owner for ticket in tickets] == ["alice"] * 2
    assert len({ticket.id for ticket in tickets}) == 2
    with pytest.raises(OverloadedError):
        admission.admit_all([one] * 5)
    with pytest.raises(InvalidRequestError):
        admission.admit_all([one, ([-1], GenerationParams())])
    assert kept.n_samples == 8


def test_requests_that_no_empty_server_could_hold_at_once_are_too_large() -> None:
    small = room(max_bytes=250)
    admission = make(FakeModel(), reservations=small)
    one = ("x", GenerationParams(max_tokens=1))
    with pytest.raises(RequestTooLargeError, match="has room for 2 of these 3 prompts"):
        admission.admit_all([one] * 3)
    with pytest.raises(RequestTooLargeError, match="holds 24 samples at once, these prompts make"):
        admission.admit_all([one] * 25)
    admission.admit(*one)
    with pytest.raises(OverloadedError):
        admission.admit_all([one] * 2)
