"""The whole server on a device, with interpreted kernels and a tiny model, beside the CPU's."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from pydantic import ByteSize

from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.engine.storage import pool_bytes
from causalrn.server.errors import DEVICE_FAILED
from causalrn_client import Client
from tests.model.tiny import random_checkpoint
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve, wait_until_ready

pytestmark = pytest.mark.usefixtures("quick_interpreter")

ROOT = Path(__file__).parents[2]
N_SLOTS, PAGE = 4, 16
LENGTHS = (3, 18, 9, 25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    random_checkpoint(folder, mlp_width=12, mlp_shift_width=3)
    return folder


@contextmanager
def _served(
    folder: Path, backend: str, n_pages: int = 40, *, ends_idle: bool = True
) -> Iterator[LiveServer]:
    size = pool_bytes(
        load_checkpoint(folder, backend), page_size=PAGE, n_slots=N_SLOTS, n_pages=n_pages
    )
    settings = make_settings(
        checkpoint=folder, page_size=PAGE, max_running=N_SLOTS, max_batch_tokens=N_SLOTS * 4,
        pool_bytes=ByteSize(size), stall_seconds=300.0,
    )  # fmt: skip
    load = partial(load_checkpoint, backend=backend)
    with serve(FakeModel(), settings, load=load, ends_idle=ends_idle) as live:
        yield live


@pytest.fixture(scope="module")
def device(folder: Path) -> Iterator[LiveServer]:
    with _served(folder, "gpu") as live:
        yield live


@pytest.fixture(scope="module")
def cpu(folder: Path) -> Iterator[LiveServer]:
    with _served(folder, "cpu") as live:
        yield live


def _text(length: int, seed: int = 0) -> str:
    letters = np.random.default_rng([length, seed]).integers(ord("a"), ord("z") + 1, length)
    return bytes(letters.tolist()).decode()


def _ask(live: LiveServer, text: str, max_tokens: int = 6, **options: Any) -> list[int]:
    """The tokens of an answer, streamed."""
    with Client(live.url, timeout=120) as client:
        asked = client.stream(text, max_tokens=max_tokens, ignore_eos=True, **options)
        with asked as stream:
            ids = [id for chunk in stream for id in chunk.token_ids]
    assert len(ids) == max_tokens
    return ids


def _ask_all(live: LiveServer, texts: list[str], **options: Any) -> list[list[int]]:
    with ThreadPoolExecutor(len(texts)) as pool:
        return list(pool.map(lambda text: _ask(live, text, **options), texts))


def test_a_batch_and_its_parts_are_answered_as_on_the_cpu(
    device: LiveServer, cpu: LiveServer
) -> None:
    texts = [_text(n) for n in LENGTHS]
    expected = _ask_all(cpu, texts)
    assert len(set(map(tuple, expected))) == len(texts)
    assert _ask_all(device, texts) == expected
    assert _ask(device, texts[1]) == expected[1]


def test_a_beginning_that_is_known_is_not_computed_again(device: LiveServer) -> None:
    text = _text(3 * PAGE, seed=1)
    with Client(device.url, timeout=120) as client:
        first, again = (client.generate(text, max_tokens=3, ignore_eos=True) for _ in range(2))
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, 3 * PAGE)
    assert again.token_ids == first.token_ids


def test_a_client_that_leaves_leaves_nothing(device: LiveServer) -> None:
    with Client(device.url, timeout=120) as client:
        asked = client.stream(_text(5), max_tokens=200, ignore_eos=True, n=2)
        with asked as stream:
            next(iter(stream))
            assert device.engine.usage.running
    device.wait_until_idle()


def test_too_few_pages_change_no_token(folder: Path, cpu: LiveServer) -> None:
    texts = [_text(20, seed) for seed in range(N_SLOTS)]
    expected = _ask_all(cpu, texts, max_tokens=16)
    with _served(folder, "gpu", n_pages=6) as live:
        assert _ask_all(live, texts, max_tokens=16) == expected
        assert live.engine.usage.preemptions > 0


def test_drawn_tokens_are_those_of_the_seed(device: LiveServer) -> None:
    drawn = [_ask(device, _text(4), temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("moves", [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_session_goes_on_where_its_snapshot_is_taken(
    device: LiveServer, cpu: LiveServer, moves: tuple[str, str]
) -> None:
    servers = {"gpu": device, "cpu": cpu}
    options: dict[str, Any] = {"max_tokens": 4, "ignore_eos": True}
    turns = [_text(7), _text(20), _text(2)]
    clients = [Client(servers[name].url, timeout=120) for name in moves]
    with clients[0] as here, clients[1] as there, here.session() as session:
        for turn in turns[:2]:
            session.generate(turn, **options)
        snapshot = session.snapshot()
        expected = session.generate(turns[2], **options).token_ids
        with there.restore(snapshot) as moved:
            answer = moved.generate(turns[2], **options)
            assert answer.token_ids == expected
            # The memory came along: nothing but the new turn was computed.
            assert answer.usage.cached_tokens >= sum(map(len, turns[:2]))


def test_a_device_that_fails_ends_requests_and_not_the_server(
    device: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    expected = _ask(device, _text(4))
    with monkeypatch.context() as patch:
        patch.setattr("causalrn.model.backends.gpu_scratch.DeviceScratch.put", fail)
        answer = device.post({"prompt": _text(4), "max_tokens": 3})
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "engine_error"
    device.wait_until_idle()
    assert _ask(device, _text(4)) == expected


def test_a_device_that_is_lost_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nand more")

    with _served(folder, "gpu", ends_idle=False) as live:
        monkeypatch.setattr("causalrn.model.backends.gpu_scratch.DeviceScratch.put", fail)
        answer = live.post({"prompt": _text(4), "max_tokens": 3})
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "engine_error"
        with live.client() as client:
            ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "the GPU failed: CUDA error: an illegal memory access" in ready.text
        assert "restart the server" in ready.text
        assert live.post({"prompt": "abc"}).status_code == 503


def test_a_server_may_end_with_its_device() -> None:
    command = [sys.executable, "-m", "uvicorn", "tests.server.lost_device_app:app", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = iter(process.stderr)
            found = next(filter(None, (re.search(r"running on (\S+)", line) for line in lines)))
            wait_until_ready(found[1])
            answer = httpx.post(f"{found[1]}/generate", json={"prompt": "abc"}, timeout=20)
            assert answer.status_code == 500
            assert answer.json()["error"]["type"] == "engine_error"
            assert process.wait(20) == DEVICE_FAILED
            assert "CAUSALRN_EXIT_ON_DEVICE_ERROR" in "".join(lines)
        finally:
            process.kill()
