"""The shipped checkpoints side by side on one server."""

import os
import shutil
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.settings import Settings
from tests.server.admin_client import HEADERS, KEYS, AdminClient
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import SessionClient, error_type

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
NAMES = ("copy-bytes", "copy-az", "exact-bytes")


class Client(SessionClient, AdminClient):
    """Somebody who may do everything."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with the shipped checkpoints, and with broken ones."""
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        shutil.copytree(CHECKPOINTS / name, folder / name)
    truncated = shutil.copytree(CHECKPOINTS / "copy-az", folder / "truncated")
    os.truncate(truncated / "model.safetensors", 1000)
    changed = shutil.copytree(CHECKPOINTS / "copy-az", folder / "changed")
    with (changed / "model.safetensors").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\xff" * 8)  # which is no number
    (shutil.copytree(CHECKPOINTS / "copy-az", folder / "without") / "model.safetensors").unlink()
    other = shutil.copytree(CHECKPOINTS / "copy-az", folder / "mixed")
    shutil.copy(CHECKPOINTS / "copy-bytes" / "config.json", other)
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    names = [*NAMES[:2], "truncated", "nowhere"]
    return make_settings(
        api_keys=KEYS,
        checkpoint=os.pathsep.join(str(folder / name) for name in names),
        model_folder=folder,
        pool_bytes=32 * 2**20,
        page_size=64,
        max_batch_tokens=128,
    )


@pytest.fixture(scope="module")
def live(settings: Settings) -> Iterator[LiveServer]:
    with serve(FakeModel(), settings, load=load_checkpoint) as live:
        yield live


@pytest.fixture
def client(live: LiveServer) -> Iterator[Client]:
    with live.client(headers=HEADERS) as client:
        yield Client(client)


def copy(client: Client, text: str, model: str | None = None) -> tuple[str, str]:
    response = client.http.post("/generate", json={"prompt": text, "model": model})
    assert response.status_code == 200, response.text
    return response.json()["model"], response.json()["text"]


def test_each_copies_in_its_own_alphabet(client: Client) -> None:
    assert copy(client, "Grüße aus 東京") == ("copy-bytes", "Grüße aus 東京")
    assert copy(client, "thequickbrownfox", "copy-az") == ("copy-az", "thequickbrownfox")
    refused = client.http.post("/generate", json={"prompt": "Grüße", "model": "copy-az"})
    assert error_type(refused, 422) == "invalid_request"


def test_what_cannot_be_loaded_says_why(client: Client) -> None:
    models = client.models()
    assert [model["status"] for model in models.values()].count("serving") == 2
    assert "no such folder" in models["nowhere"]["error"]
    assert "truncated or malformed" in models["truncated"]["error"]
    for name, reason in (
        ("nowhere", "no such folder"),
        ("truncated", "truncated or malformed"),
        ("changed", "holds values that are not finite"),
        ("without", "model.safetensors is missing"),
        ("mixed", "config.json asks for"),
    ):
        refused = client.load(name)
        assert error_type(refused, 422) == "model_load_failed"
        assert reason in refused.json()["error"]["message"]
        assert (client.models()[name]["status"], client.models()[name]["error"] is None) == (
            "failed",
            False,
        )
    assert client.http.get("/health/ready").status_code == 200
    assert copy(client, "still here") == ("copy-bytes", "still here")


def test_streams_go_on_while_another_model_comes_and_goes(client: Client, live: LiveServer) -> None:
    with ExitStack() as stack:
        answers: dict[str, str] = {}

        def stream(name: str, text: str) -> None:
            answers[name] = copy(own, text, name)[1]

        own = Client(stack.enter_context(live.client(headers=HEADERS)))
        texts = {"copy-bytes": "0123456789 " * 40, "copy-az": "abcdefghij" * 40}
        threads = [threading.Thread(target=stream, args=item) for item in texts.items()]
        for thread in threads:
            thread.start()
        assert client.load("exact-bytes").status_code == 201
        assert copy(client, "hello", "exact-bytes") == ("exact-bytes", "hello")
        assert client.unload("exact-bytes").status_code == 204
        for thread in threads:
            thread.join(60)
        assert answers == texts


def talk(client: Client, id: str, turns: range) -> list[Any]:
    answers = []
    for i in turns:
        sampling = {"temperature": 1.1, "seed": i} if i % 2 else {}
        answer = client.turn(id, f"turn {i}, of some", logprobs=3, max_tokens=24, **sampling)
        answers.append((answer["text"], answer["token_ids"], answer["logprobs"]))
    return answers


def test_a_session_goes_on_to_the_bit_when_its_model_is_loaded_again(client: Client) -> None:
    client.load("exact-bytes")
    interrupted, whole = (client.create(model="exact-bytes") for _ in range(2))
    wanted = talk(client, whole, range(6))
    assert len({text for text, _, _ in wanted}) == 6
    got = talk(client, interrupted, range(3))
    assert client.unload("exact-bytes").status_code == 204
    assert client.get(interrupted)["state"] == "cold"
    assert error_type(client.post(interrupted, "x"), 409) == "session_of_other_weights"
    assert client.load("exact-bytes").status_code == 201
    got += talk(client, interrupted, range(3, 6))
    assert got == wanted
    assert client.log(interrupted) == client.log(whole)
    saved = client.save(interrupted)
    assert client.unload("exact-bytes").status_code == 204
    assert error_type(client.restore(interrupted, saved), 422) == "invalid_snapshot"


def all_gone(things: list[weakref.ref[Any]]) -> bool:
    return not any(thing() for thing in things)


def test_memory_is_given_back(client: Client, live: LiveServer) -> None:
    copy(client, "hello", "copy-az")
    gone: list[weakref.ref[Any]] = []
    threads = []
    for _ in range(5):
        engine = live.app.state.engines.get("copy-az")
        things = (engine, engine.model.decoder, engine._core._state.layers[0])
        gone += [weakref.ref(thing) for thing in things]
        del engine, things
        assert client.unload("copy-az").status_code == 204
        live.wait_until(partial(all_gone, gone))
        assert client.load("copy-az").status_code == 201
        assert copy(client, "hello", "copy-az") == ("copy-az", "hello")
        threads.append(sum(one.name.startswith("engine ") for one in threading.enumerate()))
    assert threads == [2] * 5
