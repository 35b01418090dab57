import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.server.conftest import pool_of
from tests.server.fake_model import FakeModel
from tests.server.live_server import serve
from tests.server.session_client import SessionClient


def test_turns_forks_deletions_and_clients_that_leave_all_at_once(
    model: FakeModel, pool: ThreadPoolExecutor
) -> None:
    """Turns, forks, deletions and clients that leave, on a pool that is far too small."""
    settings = pool_of(24)
    failures: list[Any] = []
    left: list[bool] = []  # whether in mid-stream, of those who left
    forks: list[str] = []
    with serve(model, settings) as live, live.client() as client:
        api = SessionClient(client)
        ids = [api.create() for _ in range(6)]
        guard = threading.Lock()

        def work(number: int) -> None:
            for i in range(12):
                with guard:
                    id = ids[(number * 5 + i) % len(ids)]
                text = f"{number} says {i}"
                kind = (number + 3 * i) % 7
                if kind == 5:
                    body = {"session_id": id, "prompt": text * 4, "wait_for_session": True}
                    with client.stream(
                        "POST", "/generate", json=body | {"stream": True}
                    ) as response:
                        begin = next(response.iter_raw())
                    if response.status_code == 200 and b'"text":' in begin:
                        left.append(b"[DONE]" not in begin)
                    elif response.status_code != 413:
                        failures.append(begin)
                    continue
                if kind == 6:
                    deadline = time.monotonic() + 20
                    while (response := client.post(f"/sessions/{id}/fork")).status_code == 409:
                        # Somebody is in it; forks do not wait.
                        assert time.monotonic() < deadline, response.text
                        time.sleep(0.001)
                    if response.status_code != 201:
                        failures.append(response.text)
                        continue
                    child = response.json()["id"]
                    answer = api.post(child, text)
                    if answer.status_code == 200 and answer.json()["text"] == text:
                        forks.append(child)
                    elif answer.status_code != 413:
                        failures.append(answer.text)
                    api.delete(child)
                    continue
                response = api.post(id, text, wait_for_session=True, max_tokens=20)
                if response.status_code == 413:  # it is full
                    with guard:
                        ids[ids.index(id) if id in ids else 0] = api.create()
                elif response.status_code != 200 or response.json()["text"] != text[:20]:
                    failures.append(response.text)

        for future in [pool.submit(work, number) for number in range(6)]:
            future.result(60)
        assert failures == []
        assert any(left)
        assert forks
        live.wait_until_idle()
        for session in client.get("/sessions").json()["sessions"]:
            live.wait_until(lambda: not api.get(session["id"])["busy"])  # noqa: B023
            api.delete(session["id"])
        assert live.engine.usage.pages_used == 0
