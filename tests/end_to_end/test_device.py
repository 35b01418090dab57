"""`uvicorn server.app:app` on a device, with interpreted kernels and a shipped checkpoint.

Memories are in bfloat16, also where the snapshot goes. What `benchmarks.gpu` starts has them in
float32, and is tested, too.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from causalrn.model.evaluation.strings import BYTE_KINDS
from causalrn_client import Client
from tests.end_to_end.served import ROOT, served

SHARED = {"CAUSALRN_CHECKPOINT": "exact-bytes-small", "CAUSALRN_POOL_DTYPE": "bfloat16"}
LENGTH = 4


@pytest.fixture(scope="module")
def device_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(
        **SHARED,
        CAUSALRN_DEVICE="cuda",
        CAUSALRN_MAX_RUNNING="16",
        CAUSALRN_MAX_BATCH_TOKENS="16",  # a start computes twice as many
        CAUSALRN_STALL_SECONDS="600",
        CAUSALRN_SESSION_STORE=str(tmp_path_factory.mktemp("device") / "sessions.db"),
        TRITON_INTERPRET="1",
    ) as url:
        yield url


def test_every_kind_of_text_is_copied(device_url: str) -> None:
    def copy(kind: str) -> list[int]:
        with Client(device_url, timeout=300) as client:
            return client.generate(token_ids=texts[kind]).token_ids

    texts = {
        kind: draw(np.random.default_rng(3), LENGTH).tolist() for kind, draw in BYTE_KINDS.items()
    }
    assert len(texts) >= 13
    with ThreadPoolExecutor(len(texts)) as pool:
        assert dict(zip(texts, pool.map(copy, texts), strict=True)) == texts


def test_a_snapshot_goes_on_on_the_cpu(device_url: str, tmp_path: Path) -> None:
    store = str(tmp_path / "sessions.db")
    with (
        Client(device_url, timeout=300) as here,
        served(**SHARED, CAUSALRN_SESSION_STORE=store) as cpu_url,
        Client(cpu_url, timeout=300) as there,
        here.session() as session,
    ):
        session.generate("k=17;")
        snapshot = session.snapshot()
        expected = session.recall("k=", max_tokens=3).token_ids
        assert bytes(expected) == b"17;"
        with there.restore(snapshot) as moved:
            assert moved.recall("k=", max_tokens=3).token_ids == expected


def test_metrics_and_info_tell_the_device(device_url: str) -> None:
    assert 'backend="gpu"' in httpx.get(f"{device_url}/metrics").text
    info = httpx.get(f"{device_url}/info").json()
    assert (info["device"], info["limits"]["pool_dtype"]) == ("cuda", "bfloat16")


def test_a_gpu_that_is_not_there_is_refused_with_what_to_do() -> None:
    settings = {
        "CAUSALRN_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "server.app:app", "--port", "0"],
        cwd=ROOT, env=os.environ | settings,
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "CAUSALRN_DEVICE is cuda: torch finds no GPU that it can use" in done.stderr
    assert "Traceback" not in done.stderr
