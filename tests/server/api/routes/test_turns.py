"""Requests in sessions: what they answer, and what they leave in the log."""

import pytest

from causalrn.server.api.schemas.generate import GenerateChunk, GenerateResponse
from tests.server.conftest import PAGE
from tests.server.live_server import LiveServer, events
from tests.server.session_client import EOS, SessionClient, copied, error_type


@pytest.mark.parametrize("stream", [False, True])
def test_each_turn_goes_on_from_the_one_before(api: SessionClient, stream: bool) -> None:
    id = api.create()
    log: list[int] = []
    for i, text in enumerate(["hello", "grüße, 世界", "x" * 40, "hello"]):
        cached = max(0, len(log) - 1)
        answer = api.turn(id, text, stream=stream)
        (GenerateChunk if stream else GenerateResponse).model_validate(answer)
        n_prompt = len(log) + len(text.encode()) + 2
        log += copied(text)
        assert answer["text"] == text
        assert answer["session"] == {"id": id, "n_tokens": len(log)}
        assert answer["usage"] == {
            "prompt_tokens": n_prompt,
            "completion_tokens": len(text.encode()),
            "total_tokens": n_prompt + len(text.encode()),
            "cached_tokens": cached,
        }, i
        assert api.log(id) == log
    session = api.get(id)
    assert (session["state"], session["pool_tokens"]) == ("warm", len(log) - 1)
    n_pages = -(-(len(log) - 1) // 16)
    assert session["pages_own"] + session["pages_shared"] == n_pages
    assert session["pool_bytes"] == n_pages * PAGE
    assert session["used_at"] > session["created_at"]
    assert session["expires_at"] == pytest.approx(session["used_at"] + session["ttl_seconds"])
    api.delete(id)
    assert error_type(api.http.get(f"/sessions/{id}"), 404) == "session_not_found"


def test_only_the_last_event_names_the_session(api: SessionClient) -> None:
    *chunks, last, done = events(api.post(api.create(), "hello there", stream=True))
    assert done == "[DONE]"
    assert all("session" not in chunk for chunk in chunks)
    assert last["session"]["n_tokens"] == 2 + 2 * 11 + 1


def test_answers_without_a_session_do_not_mention_one(api: SessionClient) -> None:
    assert "session" not in api.post(None, "hello").json()
    *_, last, _ = events(api.post(None, "hello", stream=True))
    assert "session" not in last


def test_a_warm_session_computes_new_tokens_only(own: SessionClient, live: LiveServer) -> None:
    id = own.create()
    batches = live.model.decoder.batches
    own.turn(id, "x" * 40)
    n_batches = len(batches)
    own.turn(id, "hello")
    new = batches[n_batches:]
    assert new[0] == (1, 1 + 7)  # EOS, and the prompt
    assert new[1:] == [(1, 1)] * 5
    assert own.get(id)["pool_tokens"] == len(own.log(id)) - 1


def test_pages_that_a_session_computed_serve_others_too(own: SessionClient) -> None:
    id = own.create()
    own.turn(id, "x" * 50)
    assert own.post(None, "x" * 50).json()["usage"]["cached_tokens"] == 48
    own.turn(id, "y")
    other = own.create()
    assert own.turn(other, "x" * 50)["usage"]["cached_tokens"] == 48
    session = own.get(other)
    assert (session["pages_shared"], session["pages_own"]) == (3, 4)


def test_a_prompt_can_be_read_only(api: SessionClient) -> None:
    id = api.create()
    answer = api.turn(id, "hello", max_tokens=0)
    assert (answer["text"], answer["token_ids"], answer["finish_reason"]) == ("", [], "length")
    assert api.log(id) == [256, *b"hello", 257]
    assert api.turn(id, "", mode="raw")["text"] == "hello"
    assert api.log(id) == copied("hello")


@pytest.mark.parametrize("empty", ["", []])
def test_a_turn_that_was_cut_off_can_be_continued(
    api: SessionClient, empty: str | list[int]
) -> None:
    whole = api.create()
    api.turn(whole, "hello world")
    id = api.create()
    assert api.turn(id, "hello world", max_tokens=3)["finish_reason"] == "length"
    parts = [api.turn(id, empty, mode="raw", max_tokens=n)["text"] for n in (1, 4, 2)]
    last = api.turn(id, empty, mode="raw")
    assert (parts, last["text"]) == (["l", "o wo", "rl"], "d")
    assert last["finish_reason"] == "stop"
    assert api.log(id) == api.log(whole)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_character_that_was_cut_off_comes_with_the_turn_that_completes_it(
    api: SessionClient, n: int, stream: bool
) -> None:
    text = "né 世界 🚄\u0301"
    id = api.create()
    answers = [api.turn(id, text, max_tokens=n, stream=stream)]
    while answers[-1]["finish_reason"] == "length":
        answers.append(api.turn(id, "", mode="raw", max_tokens=n, stream=stream))
    assert "".join(answer["text"] for answer in answers) == text
    token_ids = [id for answer in answers for id in answer["token_ids"]]
    assert bytes(token_ids) == text.encode()
    assert api.log(id) == copied(text)


def test_a_character_that_was_cut_off_waits_in_forks_and_on_disk(
    own: SessionClient, live: LiveServer
) -> None:
    id = own.create()
    assert own.turn(id, "a🚄", max_tokens=3)["text"] == "a"
    child, restored = own.fork(id), own.create()
    assert own.restore(restored, own.save(id)).status_code == 200
    live.forget_sessions()
    for one in (id, child, restored):
        assert own.turn(one, "", mode="raw")["text"] == "🚄"


def test_a_character_that_was_cut_off_is_not_mixed_into_another_turn(api: SessionClient) -> None:
    id = api.create()
    assert api.turn(id, "é", max_tokens=1)["text"] == ""
    assert api.turn(id, "b", echo=True)["text"] == "bb"
    assert api.turn(id, "é", max_tokens=1)["text"] == ""
    answer = api.turn(id, [0xA9], mode="raw", echo=True)
    assert (answer["text"], answer["token_ids"]) == ("é", [0xA9])


def test_an_answer_completes_the_character_that_its_prompt_begins(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "grüße", max_tokens=0)
    first, *rest = "üße".encode()
    answer = api.turn(id, [*b"gr", first], mode="recall")
    assert (answer["text"], answer["token_ids"]) == ("üße", rest)
    prompt = [256, *"é".encode(), 257, 0xC3]
    assert api.turn(api.create(), prompt, mode="raw")["text"] == "é"
    echoed = api.turn(api.create(), prompt, mode="raw", echo=True)
    assert (echoed["text"], echoed["token_ids"]) == ("éé", [*prompt, 0xA9])


def test_raw_turns_may_hold_special_ids(api: SessionClient) -> None:
    id = api.create()
    assert api.turn(id, [256, 104, 105, 257], mode="raw")["text"] == "hi"
    assert api.log(id) == copied("hi")
    # Sixteen tokens unless it says, of which EOS would be none.
    other = api.create()
    answer = api.turn(other, [256, *[97] * 30, 257], mode="raw")
    assert (answer["text"], answer["finish_reason"]) == ("a" * 16, "length")


def test_recall_goes_on_with_what_was_read(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "the quick brown fox", max_tokens=0)
    api.turn(id, "something else")
    answer = api.turn(id, "the qu", mode="recall")
    assert (answer["text"], answer["finish_reason"]) == ("ick brown fox", "stop")
    assert api.log(id)[-21:] == [256, 257, *b"the qu", *b"ick brown fox", EOS][-21:]
    assert api.turn(id, "some", mode="recall", max_tokens=5)["text"] == "thing"


def test_turns_take_stop_strings_echo_and_log_probabilities(api: SessionClient) -> None:
    id = api.create()
    answer = api.turn(id, "one, two", stop=", ", logprobs=1)
    assert (answer["text"], answer["finish_reason"]) == ("one", "stop")
    assert len(answer["logprobs"]) == 5
    assert api.log(id) == [256, *b"one, two", 257, *b"one, "]
    answer = api.turn(id, "abc", echo=True)
    assert answer["text"] == "abcabc"
    assert api.log(id)[-9:] == copied("abc")


def test_an_eos_that_is_ignored_is_in_the_log(api: SessionClient) -> None:
    id = api.create()
    assert api.turn(id, "a", max_tokens=3, ignore_eos=True)["token_ids"] == [97, EOS, EOS]
    assert api.log(id) == [256, 97, 257, 97, EOS, EOS]
