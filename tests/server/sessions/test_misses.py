"""Recalls that find nothing, over HTTP: what clients are told, and what the stores keep."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.api.schemas.generate import GenerateChunk, GenerateResponse
from causalrn.server.settings import Settings
from tests.server.api.openai_calls import connect
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import SessionClient, copied
from tests.server.sessions.servers import TEXT, process, thread
from tests.server.steps import AtStep, fail


def careful() -> FakeModel:
    """A model that recalls only what it found."""
    return FakeModel(recall=True, min_match=1.0)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def live(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    place = {}
    if request.param == "postgres":
        place["session_store"] = request.getfixturevalue("postgres").new_place()
    with serve(careful(), make_settings(**place)) as live:
        yield live


@pytest.fixture
def api(live: LiveServer) -> Iterator[SessionClient]:
    with live.client() as client:
        yield SessionClient(client)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_cold", [False, True])
def test_a_miss_leaves_the_session_as_it_was(
    api: SessionClient, live: LiveServer, stream: bool, is_cold: bool
) -> None:
    id, other = api.create(), api.create()
    for one in (id, other):
        api.turn(one, "the ferry leaves at nine")
    log, before = api.log(id), api.get(id)
    for prefix in ("the bus", "x" * 50, "the ferry stays"):
        if is_cold:
            live.forget_sessions()
        answer = api.turn(id, prefix, mode="recall", stream=stream)
        (GenerateChunk if stream else GenerateResponse).model_validate(answer)
        assert (answer["text"], answer["token_ids"]) == ("", [])
        assert answer["finish_reason"] == "not_found"
        assert 0 <= answer["match"] < 1
        assert answer["verified"] is None
        assert answer["usage"]["completion_tokens"] == 0
        assert answer["session"] == {"id": id, "n_tokens": len(log)}
        after = api.get(id)
        assert api.log(id) == log
        assert (after["n_tokens"], after["busy"]) == (len(log), False)
        if not is_cold:
            assert after["pool_tokens"] == before["pool_tokens"] == len(log) - 1
    found = api.turn(id, "the ferry", mode="recall", stream=stream)
    assert (found["text"], found["finish_reason"]) == (" leaves at nine", "stop")
    assert (found["match"], found["verified"]) == (1.0, True)
    assert api.turn(other, "the ferry", mode="recall")["text"] == found["text"]
    assert api.log(id) == api.log(other)
    assert found["session"]["n_tokens"] == len(api.log(id))


def test_after_a_miss_a_warm_session_computes_new_tokens_only(
    api: SessionClient, live: LiveServer
) -> None:
    id = api.create()
    api.turn(id, "x" * 40)
    api.turn(id, "y" * 20, mode="recall")
    batches = live.model.decoder.batches
    n_batches = len(batches)
    assert api.turn(id, "hello")["usage"]["cached_tokens"] == len(copied("x" * 40)) - 1
    assert batches[n_batches:] == [(1, 1 + 7)] + [(1, 1)] * 5  # EOS, and the prompt


def test_nothing_is_found_in_an_empty_session(api: SessionClient) -> None:
    id = api.create()
    answer = api.turn(id, "hello", mode="recall")
    assert (answer["finish_reason"], answer["session"]["n_tokens"]) == ("not_found", 0)
    assert (api.log(id), api.get(id)["state"]) == ([], "cold")
    assert api.turn(id, "hello")["text"] == "hello"


def test_whoever_wants_the_nearest_gets_it_and_keeps_it(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "hello there")
    answer = api.turn(id, "help", mode="recall", allow_partial=True)
    assert (answer["text"], answer["finish_reason"]) == ("", "stop")
    assert (answer["match"], answer["verified"]) == (0.75, False)
    assert api.log(id) == [*copied("hello there"), 256, 257, *b"help", 258]
    copy = api.turn(id, "copied", allow_partial=True)  # which changes nothing there
    assert (copy["text"], copy["verified"]) == ("copied", True)


def test_a_recall_that_is_cut_off_is_right_as_far_as_it_goes(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "one, two, three", max_tokens=0)
    cut = api.turn(id, "one", mode="recall", max_tokens=3)
    assert (cut["text"], cut["finish_reason"], cut["verified"]) == (", t", "length", True)
    stopped = api.turn(id, "one", mode="recall", stop="ee")
    assert (stopped["text"], stopped["verified"]) == (", two, thr", True)


def test_a_recall_is_short_unless_more_is_asked_for(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "key" + "x" * 270, max_tokens=0)
    assert api.turn(id, "key", mode="recall")["usage"]["completion_tokens"] == 256
    whole = api.turn(id, "key", mode="recall", max_tokens=300)
    assert (whole["text"], whole["finish_reason"]) == ("x" * 270, "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_completions_say_it_too(api: SessionClient, live: LiveServer, stream: bool) -> None:
    """Through the `openai` package, which takes the fields that OpenAI does not have."""
    id = api.create()
    api.turn(id, "hello there")

    def last(prompt: str, **options: Any) -> Any:
        extra = {"session_id": id, "mode": "recall"} | options
        answer: Any = client.completions.create(
            model="fake-copy", prompt=prompt, stream=stream, extra_body=extra
        )
        *others, last = answer if stream else [answer]
        assert all("match" not in one.choices[0].model_extra for one in others)
        return last.choices[0]

    with connect(live) as client:
        missed, found = last("help"), last("hello")
        partial = last("help", allow_partial=True)
    assert (missed.finish_reason, missed.text) == ("not_found", "")
    assert (missed.match, missed.verified) == (0.75, None)
    assert (found.finish_reason, found.match, found.verified) == ("stop", 1.0, True)
    assert (partial.finish_reason, partial.match, partial.verified) == ("stop", 0.75, False)


def test_no_client_is_sent_what_a_crash_could_take_back(api: SessionClient) -> None:
    """With each event, what was sent is in the log, behind the whole prompt."""
    id = api.create()
    api.turn(id, TEXT)
    got = ""
    with api.stream(id, TEXT[:4], mode="recall") as stream:
        for event in stream:
            if event != "[DONE]":
                got += event["text"]
                sent = [256, 257, *TEXT[:4].encode(), *got.encode()]
                kept = api.log(id)[len(copied(TEXT)) :]
                assert kept[: len(sent)] == sent
    assert got == TEXT[4:]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_recall_that_ends_before_its_answer_leaves_nothing(
    live: LiveServer, api: SessionClient, leaves: bool
) -> None:
    """Its client leaves, or its step fails."""
    id = api.create()
    api.turn(id, "hello there")
    log = api.log(id)
    if leaves:
        live.model.decoder.before_extend = AtStep(
            1, lambda _: live.wait_until(lambda: id not in live.sessions.locks)
        )
        with pytest.raises(httpx.ReadTimeout):
            api.http.post("/generate", json=recall(id, "hello"), timeout=0.5)
    else:
        live.model.decoder.before_extend = fail
        assert api.post(id, "hello", mode="recall").status_code == 500
    live.model.decoder.before_extend = lambda _: None
    assert api.turn(id, "hello", mode="recall", wait_for_session=True)["text"] == " there"
    assert api.log(id)[: len(log)] == log
    assert api.log(id)[len(log) :] == [256, 257, *b"hello there", 258]


def recall(id: str, prompt: str) -> dict[str, Any]:
    return {"session_id": id, "prompt": prompt, "mode": "recall"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_server_that_is_killed_in_a_recall_leaves_all_of_it_or_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    store = str(tmp_path / "sessions.db")
    if kind == "postgres":
        store = request.getfixturevalue("postgres").new_place()
    with process(store, step_seconds=0.2) as first:
        id = first.create()
        first.turn(id, TEXT, max_tokens=0)
        log = first.log(id)
        with first.stream(id, TEXT[:4], mode="recall") as stream:
            assert first.log(id) in (log, [*log, 256, 257, *TEXT[:5].encode()])
            got = next(stream)["text"] + next(stream)["text"]
            first.process.kill()
            first.process.wait(15)
    with thread(store) as (_, api):
        kept = api.log(id)
        prompt = [*log, 256, 257, *TEXT[:4].encode()]
        assert kept[: len(prompt)] == prompt
        rest = bytes(kept[len(prompt) :]).decode()
        assert rest.startswith(got)
        assert TEXT[4:].startswith(rest)


def test_a_checkpoint_says_how_much_of_a_match_it_needs(tmp_path: Path) -> None:
    """The shipped one, with a least match in its `config.json`."""
    folder = tmp_path / "exact-bytes"
    shutil.copytree(Settings().checkpoint[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config["task"]["params"]["min_match"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = load_checkpoint(folder)
    matches = iter([1.0, 0.49, 0.5, 0.75])  # after each turn, and before an answer
    checkpoint.decoder.match = lambda *_: next(matches)  # type: ignore[method-assign]
    settings = make_settings(pool_bytes=2**25, page_size=64)
    with serve(FakeModel(), settings, load=lambda _: checkpoint) as live, live.client() as client:
        api = SessionClient(client)
        id = api.create()
        api.turn(id, "The ferry to Oslo leaves at 7:40 from pier 3.", max_tokens=0, mode="raw")
        log = api.log(id)
        missed = api.turn(id, "The ferry to Oslo", mode="recall")
        assert (missed["finish_reason"], missed["match"], missed["text"]) == ("not_found", 0.49, "")
        assert api.log(id) == log
        found = api.turn(id, "The ferry to Oslo", mode="recall", stream=True)
        assert (found["match"], found["token_ids"] != []) == (0.75, True)
