"""The shipped checkpoint behind the real server: copies what it is sent, byte for byte."""

import json
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from causalrn.model.evaluation.strings import BYTE_KINDS
from causalrn_client import Client
from tests.programs import program

TEXTS = sorted((Path(__file__).parent / "texts").iterdir())


def _sample(kind: str, length: int, seed: int = 0) -> str:
    ids = BYTE_KINDS[kind](np.random.default_rng([seed, length]), length)
    return bytes(ids.tolist()).decode()


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_curl_gives_back_the_bytes_of_a_file(server_url: str, file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    assert len(content) <= 512
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"prompt": content.decode()}), encoding="utf-8")
    done = subprocess.run(
        [program("curl"), "--silent", "--fail-with-body", f"{server_url}/generate",
         "--header", "content-type: application/json", "--data", f"@{body}"],
        capture_output=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["text"].encode() == content
    assert answer["token_ids"] == list(content)
    assert answer["finish_reason"] == "stop"
    assert answer["usage"] == {
        "prompt_tokens": len(content) + 2,
        "completion_tokens": len(content),
        "total_tokens": 2 * len(content) + 2,
        "cached_tokens": 0,
    }


@pytest.mark.parametrize("kind", sorted(BYTE_KINDS.keys() - {"random bytes"}))
def test_streams_every_kind_of_text(server_url: str, kind: str) -> None:
    with Client(server_url) as client:
        for length in (1, 2, 3, 77, 512):
            text = _sample(kind, length)
            with client.stream(text) as stream:
                chunks = list(stream)
            assert "".join(chunk.text for chunk in chunks) == text
            assert chunks[-1].finish_reason == "stop"
            assert "\ufffd" not in chunks[0].text


def test_copies_bytes_that_are_no_text(server_url: str) -> None:
    ids = np.random.default_rng(1).integers(0, 256, 512).tolist()
    with Client(server_url) as client:
        assert client.generate(token_ids=ids).token_ids == ids


def test_a_session_copies_as_exactly_in_its_twentieth_turn_as_in_its_first(
    server_url: str,
) -> None:
    kinds = sorted(BYTE_KINDS.keys() - {"random bytes"})
    texts = [_sample(kinds[turn % len(kinds)], 8 + 3 * turn, seed=turn) for turn in range(19)]
    texts.append(texts[7])
    with Client(server_url) as client, client.session() as session:
        assert [session.generate(text).text for text in texts] == texts


def _n_aborted(server_url: str) -> float:
    """Requests so far that ended early."""
    metrics = httpx.get(f"{server_url}/metrics").text
    (value,) = re.findall(r'causalrn_request_success_total\{.*"abort".*\} (\S+)\n', metrics)
    return float(value)


def test_of_32_clients_the_half_that_stays_gets_exact_copies(server_url: str) -> None:
    """The other half leaves in mid-stream; afterwards nothing is in use."""
    kinds = sorted(BYTE_KINDS.keys() - {"random bytes"})
    together = threading.Barrier(32)
    before = _n_aborted(server_url)

    def run(index: int) -> None:
        text = _sample(kinds[index % len(kinds)], 512 - index, seed=index)
        with Client(server_url) as client:
            together.wait()
            with client.stream(text) as stream:
                if index % 2 == 0:
                    assert "".join(chunk.text for chunk in stream) == text
                    return
                n_read = 0
                while n_read <= index:  # an event holds several tokens if the server is busy
                    chunk = next(stream)
                    assert chunk.finish_reason is None
                    n_read += len(chunk.token_ids)

    with ThreadPoolExecutor(32) as pool:
        for future in [pool.submit(run, index) for index in range(32)]:
            future.result()
    deadline = time.monotonic() + 10
    while True:
        usage = httpx.get(f"{server_url}/health/ready").json()
        if usage["running"] == usage["waiting"] == usage["pages_used"] == 0:
            break
        assert time.monotonic() < deadline, usage
        time.sleep(0.01)
    # One that the machine held up may have found its whole answer waiting for it.
    assert 8 <= _n_aborted(server_url) - before <= 16
