"""Sessions on a server with keys: everybody sees their own, an administrator all."""

import hashlib
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import error_type

NOBODYS = "ses-" + "0" * 32


def entry(name: str, **changes: object) -> dict[str, object]:
    digest = hashlib.sha256(f"key-of-{name}".encode()).hexdigest()
    return {"name": name, "hash": f"sha256:{digest}"} | changes


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    entries = [
        entry("anna"),
        entry("bert"),
        entry("carl", max_sessions=2),
        entry("root", role="admin", max_sessions=1),
    ]
    with serve(FakeModel(), make_settings(api_keys=json.dumps(entries))) as live:
        yield live


class Keys:
    """One client for each key."""

    def __init__(self, live: LiveServer) -> None:
        self.anna, self.bert, self.carl, self.root = (
            live.client(headers={"authorization": f"Bearer key-of-{name}"})
            for name in ("anna", "bert", "carl", "root")
        )


@pytest.fixture
def keys(live: LiveServer) -> Iterator[Keys]:
    keys = Keys(live)
    yield keys
    for id in ids(keys.root):
        keys.root.delete(f"/sessions/{id}").raise_for_status()
    for client in vars(keys).values():
        client.close()


def made(client: httpx.Client) -> str:
    response = client.post("/sessions")
    assert response.status_code == 201, response.text
    id: str = response.json()["id"]
    return id


def turn(client: httpx.Client, id: str, prompt: str = "hi") -> httpx.Response:
    return client.post("/generate", json={"session_id": id, "prompt": prompt})


def cached(client: httpx.Client, prompt: str) -> int:
    """Tokens of a prompt that were in memory already."""
    response = client.post("/generate", json={"prompt": prompt})
    n_tokens: int = response.json()["usage"]["cached_tokens"]
    return n_tokens


def ids(client: httpx.Client) -> list[str]:
    return [session["id"] for session in client.get("/sessions").json()["sessions"]]


def test_another_s_session_is_as_if_there_were_none(keys: Keys) -> None:
    id = made(keys.anna)
    assert turn(keys.anna, id).json()["text"] == "hi"
    snapshot = keys.anna.get(f"/sessions/{id}/snapshot").content
    bert = keys.bert
    for there, nowhere in (
        (bert.get(f"/sessions/{id}"), bert.get(f"/sessions/{NOBODYS}")),
        (
            bert.get(f"/sessions/{id}?include=token_ids"),
            bert.get(f"/sessions/{NOBODYS}?include=token_ids"),
        ),
        (bert.delete(f"/sessions/{id}"), bert.delete(f"/sessions/{NOBODYS}")),
        (bert.post(f"/sessions/{id}/fork"), bert.post(f"/sessions/{NOBODYS}/fork")),
        (bert.get(f"/sessions/{id}/snapshot"), bert.get(f"/sessions/{NOBODYS}/snapshot")),
        (turn(bert, id), turn(bert, NOBODYS)),
        (
            bert.post("/v1/completions", json={"session_id": id, "prompt": "hi"}),
            bert.post("/v1/completions", json={"session_id": NOBODYS, "prompt": "hi"}),
        ),
    ):
        assert there.status_code == nowhere.status_code == 404
        assert there.text == nowhere.text.replace(NOBODYS, id)
    assert ids(bert) == []
    content = {"content-type": "application/octet-stream"}
    taken = bert.put(f"/sessions/{id}/snapshot", content=snapshot, headers=content)
    assert error_type(taken, 409) == "session_exists"
    # Nothing of all that has changed it.
    assert ids(keys.anna) == [id]
    assert keys.anna.get(f"/sessions/{id}").json()["n_tokens"] == 7
    assert turn(keys.anna, id, "ho").json()["text"] == "ho"


def test_forks_and_restored_sessions_have_owners(keys: Keys) -> None:
    id = made(keys.anna)
    turn(keys.anna, id)
    fork = keys.anna.post(f"/sessions/{id}/fork").json()["id"]
    by_root = keys.root.post(f"/sessions/{id}/fork").json()["id"]
    snapshot = keys.anna.get(f"/sessions/{id}/snapshot").content
    content = {"content-type": "application/octet-stream"}
    other = "ses-" + "a" * 32
    put = keys.bert.put(f"/sessions/{other}/snapshot", content=snapshot, headers=content)
    assert put.status_code == 201
    assert ids(keys.bert) == [other]
    assert set(ids(keys.anna)) == {id, fork, by_root}
    # An administrator who puts something in a session's place leaves it to its owner.
    put = keys.root.put(f"/sessions/{other}/snapshot", content=snapshot, headers=content)
    assert put.status_code == 200
    assert ids(keys.bert) == [other]
    assert set(ids(keys.root)) == {id, fork, by_root, other}
    assert turn(keys.root, id).json()["text"] == "hi"


def test_what_another_key_has_sent_is_not_in_memory(keys: Keys) -> None:
    prompt = "the same beginning of a prompt, longer than a page"
    assert cached(keys.anna, prompt) == 0
    assert cached(keys.anna, prompt) > 0
    assert cached(keys.bert, prompt) == 0
    assert cached(keys.bert, prompt) > 0
    # Nor by way of sessions.
    id = made(keys.carl)
    assert turn(keys.carl, id, prompt).json()["usage"]["cached_tokens"] == 0
    assert cached(keys.carl, prompt) > 0


def test_what_is_computed_for_a_snapshot_is_its_owners(live: LiveServer, keys: Keys) -> None:
    prompt = "what somebody has said, longer than a page as well"
    theirs = made(keys.bert)
    turn(keys.bert, theirs, prompt)
    snapshot = keys.bert.get(f"/sessions/{theirs}/snapshot").content
    content = {"content-type": "application/octet-stream"}
    id = "ses-" + "c" * 32
    put = keys.anna.put(f"/sessions/{id}/snapshot", content=snapshot, headers=content)
    assert put.status_code == 201
    # What was restored is in nobody's cache, so what is there then was computed for the snapshot.
    live.forget_sessions()
    assert keys.root.get(f"/sessions/{id}/snapshot").status_code == 200
    assert cached(keys.root, prompt) == 0
    assert cached(keys.anna, prompt) > 0


def test_a_key_has_as_many_sessions_as_it_may(keys: Keys) -> None:
    first, second = made(keys.carl), made(keys.carl)
    turn(keys.carl, first)
    for refused in (
        keys.carl.post("/sessions"),
        keys.carl.post(f"/sessions/{first}/fork"),
        keys.carl.put(
            f"/sessions/ses-{'b' * 32}/snapshot",
            content=keys.carl.get(f"/sessions/{first}/snapshot").content,
            headers={"content-type": "application/octet-stream"},
        ),
    ):
        assert error_type(refused, 429) == "too_many_sessions"
        assert "the key 'carl' has 2 sessions" in refused.text
    made(keys.anna)  # which is nothing to others
    keys.carl.delete(f"/sessions/{second}").raise_for_status()
    assert keys.carl.post(f"/sessions/{first}/fork").status_code == 201
    # What an administrator forks for others does not count as the administrator's own.
    made(keys.root)
    assert keys.root.post("/sessions").status_code == 429
    by_root = keys.root.post(f"/sessions/{first}/fork")
    assert by_root.status_code == 201, by_root.text
