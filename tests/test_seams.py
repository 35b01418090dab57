"""A mixer, a task and a backend of one's own go all the way, without a line of the project changed.

Ten steps of training, a checkpoint, a server; turns of a session, a fork, a snapshot and back.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from causalrn.model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from causalrn.model.training.preset import load_preset
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from causalrn.server.settings import Settings
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.toys import MeanMixer, PlainBackend, toys

PRESET = """
tokenizer = "letters"

[model]
d_model = 16
positions = "none"
max_seq_len = 512

[[model.blocks]]
mixer = "mean"
params = { n_rows = 3 }

[[model.blocks]]
mixer = "mean"

[optimizer]
steps = 10
learning_rate = 0.05

[task]
name = "counting"
step = 2
"""


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Iterator[None]:
    with toys():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a checkpoint that ten steps of training left."""
    file = tmp_path_factory.mktemp("preset") / "toy.toml"
    file.write_text(PRESET)
    run = Run(tmp_path_factory.mktemp("run") / "toy")
    trainer = Trainer(load_preset(str(file)), run)
    losses: list[float] = []
    assert trainer.train(lambda now: losses.append(now.loss), lambda: False)
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    return run.folder


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, backend="plain")


@pytest.fixture(scope="module")
def live(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings: Settings = make_settings(
        pool_bytes=1_000_000, session_store=str(tmp_path_factory.mktemp("store") / "sessions.db")
    )
    with serve(FakeModel(), settings, load=lambda _: checkpoint) as live:
        yield live


def test_the_toys_are_what_runs(checkpoint: Checkpoint) -> None:
    assert isinstance(checkpoint.decoder.backend, PlainBackend)
    assert all(isinstance(block.mixer, MeanMixer) for block in checkpoint.decoder.blocks)
    assert checkpoint.task.name == "counting"


def test_a_part_that_the_backend_has_no_operation_for_says_so(
    folder: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    values = (folder / "config.json").read_text().replace('"mean"', '"normalised"')
    (tmp_path / "config.json").write_text(values)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"there is no mixer 'normalised'; known mixers: .*, mean, "
    ):
        load_checkpoint(tmp_path)
    with pytest.raises(
        ValueError, match="there is no backend 'tpu'; known backends: cpu, gpu, plain"
    ):
        load_checkpoint(folder, backend="tpu")
    assert checkpoint.decoder.backend.promise


def test_it_is_served(live: LiveServer) -> None:
    body = {"prompt": "hello", "max_tokens": 7, "logprobs": 2}
    first, second = (live.post(body).raise_for_status().json() for _ in range(2))
    assert len(first["token_ids"]) <= 7
    assert [first[name] for name in ("token_ids", "logprobs")] == [
        second[name] for name in ("token_ids", "logprobs")
    ]
    refused = live.post(body | {"mode": "copy"})
    assert refused.status_code == 422
    assert "count" in refused.json()["error"]["message"]
    with live.client() as client:
        config = client.get("/info").json()["config"]
    assert config["blocks"][0] == {"mixer": "mean", "params": {"n_rows": 3}}


def test_sessions_forks_and_snapshots(live: LiveServer) -> None:
    """What goes on from a fork, and from a snapshot, is what goes on from the session itself."""

    def turn(session: str, text: str) -> Any:
        body = {"prompt": text, "max_tokens": 40, "ignore_eos": True, "logprobs": 1}
        answer = live.post(body | {"session_id": session}).raise_for_status().json()
        return answer["token_ids"], answer["logprobs"], answer["session"]["n_tokens"]

    with live.client() as client:
        session = client.post("/sessions").json()["id"]
        turn(session, "first")
        turn(session, "second")
        fork = client.post(f"/sessions/{session}/fork").json()["id"]
        snapshot = client.get(f"/sessions/{session}/snapshot").raise_for_status().content
        expected = turn(session, "third")
        assert turn(fork, "third") == expected
        client.delete(f"/sessions/{session}").raise_for_status()
        restored = client.put(
            f"/sessions/{session}/snapshot",
            content=snapshot,
            headers={"content-type": "application/octet-stream"},
        ).raise_for_status()
        assert restored.json()["state"] == "warm"
        assert turn(session, "third") == expected
        for id in (session, fork):
            client.delete(f"/sessions/{id}").raise_for_status()
