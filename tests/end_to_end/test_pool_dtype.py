"""Two servers of the same weights, of which one keeps memories in about half the bytes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.served import served
from tests.server.session_client import NOBODY, SessionClient, error_type

DTYPES = ("float32", "bfloat16")
TEXT = "what was read is what is written, in half the bytes: 東京 🚄"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SessionClient]]:
    folder: Path = tmp_path_factory.mktemp("sessions")
    with ExitStack() as stack:
        clients = {}
        for dtype in DTYPES:
            url = stack.enter_context(
                served(
                    CAUSALRN_CHECKPOINT="exact-bytes-small",
                    CAUSALRN_POOL_BYTES="64MiB",
                    CAUSALRN_POOL_DTYPE=dtype,
                    CAUSALRN_SESSION_STORE=str(folder / f"{dtype}.db"),
                )
            )
            clients[dtype] = SessionClient(
                stack.enter_context(httpx.Client(base_url=url, timeout=60))
            )
        yield clients


def test_the_narrow_one_holds_more(servers: dict[str, SessionClient]) -> None:
    limits = {dtype: one.http.get("/info").json()["limits"] for dtype, one in servers.items()}
    assert {dtype: one["pool_dtype"] for dtype, one in limits.items()} == {d: d for d in DTYPES}
    assert limits["bfloat16"]["pool_tokens"] > 1.2 * limits["float32"]["pool_tokens"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_copies_and_recalls(servers: dict[str, SessionClient], dtype: str) -> None:
    server = servers[dtype]
    id = server.create()
    assert server.turn(id, TEXT)["text"] == TEXT
    assert server.turn(id, "other words altogether")["text"] == "other words altogether"
    assert server.turn(id, TEXT[:20], mode="recall")["text"] == TEXT[20:]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_snapshot_goes_to_servers_of_its_type(
    servers: dict[str, SessionClient], dtype: str
) -> None:
    server = servers[dtype]
    id = server.create()
    server.turn(id, TEXT)
    snapshot = server.save(id)
    assert server.restore(NOBODY, snapshot).status_code == 201
    assert server.turn(NOBODY, TEXT[:20], mode="recall")["text"] == TEXT[20:]
    (other,) = (one for name, one in servers.items() if name != dtype)
    refused = other.restore(id, snapshot)
    assert error_type(refused, 422) == "invalid_snapshot"
    assert f"CAUSALRN_POOL_DTYPE={dtype}" in refused.json()["error"]["message"]
    server.delete(NOBODY)
