"""Many requests at once, by both clients."""

import asyncio
import pickle
import threading
from typing import Any

import pytest

from causalrn_client import (
    AsyncClient,
    AuthenticationError,
    BatchError,
    CausalRNError,
    Client,
    Generation,
    InvalidRequestError,
    ModelNotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from causalrn_client.async_run_batch import async_run_batch
from causalrn_client.batch import Batch
from causalrn_client.run_batch import run_batch
from tests.clients.python.blocking import AnyClient, busy_connections
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import Reply, raw_server

TEXTS = [f"text {n}" for n in range(20)]


def test_results_are_in_order(client: AnyClient, server: ContractServer) -> None:
    told: dict[int, Any] = {}
    results = client.generate_many(iter(TEXTS), progress=told.__setitem__, n=2, model="mine")
    assert [result.text for result in results] == TEXTS
    assert told == dict(enumerate(results))
    assert {(r.body["n"], r.body["model"]) for r in server.received} == {(2, "mine")}


def test_texts_and_ids(client: AnyClient) -> None:
    results = client.generate_many(["ab", [99, 100], (101,)])
    assert [result.text for result in results] == ["ab", "cd", "e"]


def test_none(client: AnyClient, server: ContractServer) -> None:
    assert client.generate_many([]) == []
    assert client.score_many([]) == []
    assert server.received == []


@pytest.mark.parametrize("n", [0, -1])
def test_concurrency_is_checked(client: AnyClient, n: int) -> None:
    with pytest.raises(InvalidRequestError, match="max_concurrency must be at least 1"):
        client.generate_many(["a"], max_concurrency=n)


def test_failures_leave_the_others(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned.error(422, "invalid_request", "prompt: is odd", "prompt"))
    told: list[int] = []
    with pytest.raises(BatchError) as caught:
        client.generate_many(
            ["first", "second", "third\ud800", "fourth"],
            max_concurrency=1,
            progress=lambda place, _: told.append(place),
        )
    error = caught.value
    assert told == [0, 1, 2, 3]
    assert [getattr(result, "text", type(result)) for result in error.results] == [
        UnprocessableEntityError,
        "second",
        InvalidRequestError,
        "fourth",
    ]
    assert list(error.errors) == [0, 2]
    assert str(error).startswith("2 of 4 requests failed, the first at place 0: 422")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), list(again.errors)) == (str(error), [0, 2])


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "unauthorized", AuthenticationError),
        (403, "forbidden", PermissionDeniedError),
        (404, "model_not_found", ModelNotFoundError),
    ],
)
def test_what_holds_for_all_is_asked_once(
    client: AnyClient, server: ContractServer, status: int, kind: str, error: type[CausalRNError]
) -> None:
    server.answer_next(Canned.error(status, kind, "no"))
    told: list[int] = []
    with pytest.raises(BatchError) as caught:
        client.generate_many(TEXTS, max_concurrency=1, progress=lambda place, _: told.append(place))
    assert [type(result) for result in caught.value.results] == [error] * 20
    assert told == list(range(20))
    assert len(server.received) == 1


def test_an_error_of_the_caller_s_is_raised(client: AnyClient) -> None:
    def report(place: int, _: object) -> None:
        raise LookupError(place)

    with pytest.raises(LookupError):
        client.generate_many(TEXTS, progress=report)


def test_threads_are_as_many_as_allowed() -> None:
    all_there = threading.Barrier(3, timeout=20)
    lock = threading.Lock()
    at_once, most = 0, 0

    def send(place: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        all_there.wait()
        with lock:
            at_once -= 1
        return place

    assert run_batch(Batch[int](21, 3, None), send) == list(range(21))
    assert most == 3


@pytest.mark.anyio
async def test_tasks_are_as_many_as_allowed() -> None:
    all_there = asyncio.Barrier(3)
    at_once, most = 0, 0

    async def send(place: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await all_there.wait()
        at_once -= 1
        return place

    results = await async_run_batch(Batch[int](21, 3, None), send)
    assert (results, most) == (list(range(21)), 3)


def test_the_caller_s_thread_is_told(server: ContractServer) -> None:
    threads = set()

    def report(*_: object) -> None:
        threads.add(threading.current_thread())

    with Client(server.url) as client:
        client.generate_many(TEXTS, progress=report)
    assert threads == {threading.current_thread()}


@pytest.mark.anyio
async def test_cancellation_ends_what_is_under_way() -> None:
    before = asyncio.all_tasks()
    with raw_server(*[Reply(then_silence=True)] * 4) as silent:
        async with AsyncClient(silent.url) as client:
            task = asyncio.create_task(client.generate_many(["a"] * 9, max_concurrency=4))
            # The server is another thread's.
            while silent.connections < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == before
            assert busy_connections(client) == []
            assert silent.connections == 4


def test_scores_are_in_order(client: AnyClient, server: ContractServer) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        ids = body["token_ids"]
        return {
            "id": "g", "model": "m", "text": "", "token_ids": ids, "finish_reason": "length",
            "usage": {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2},
            "logprobs": [
                {"token_id": i, "logprob": -i, "top": [{"token_id": i, "logprob": -i}]}
                for i in ids
            ],
        }  # fmt: skip

    server.answer_next(*[Canned.of(answer({"token_ids": [0, n]})) for n in (1, 2, 3)])
    scores = client.score_many([([0], [n]) for n in (1, 2, 3)], max_concurrency=1, deadline=9)
    assert [score.logprob for score in scores] == [-1, -2, -3]
    assert [received.body["timeout"] for received in server.received] == [9] * 3
    with pytest.raises(BatchError) as caught:
        client.score_many([([], [1]), ([1], [])])
    assert [type(result) for result in caught.value.results] == [InvalidRequestError] * 2


def test_results_are_typed(server: ContractServer) -> None:
    with Client(server.url) as client:
        results: list[Generation] = client.generate_many(["a"])
    assert results[0].text == "a"
