"""The errors of sessions, as types."""

import pickle

import pytest

from causalrn_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConflictError,
    InternalServerError,
    InvalidSnapshotError,
    NotFoundError,
    RateLimitError,
    RequestTooLargeError,
    ServiceUnavailableError,
    SessionBusyError,
    SessionDamagedError,
    SessionExistsError,
    SessionFullError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
    SessionStoreUnavailableError,
    StreamError,
    TooManySessionsError,
    UnprocessableEntityError,
)
from causalrn_client.errors import TYPED_ERRORS
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer

KINDS: list[tuple[int, str, type[APIStatusError], type[APIStatusError]]] = [
    (404, "session_not_found", SessionNotFoundError, NotFoundError),
    (409, "session_busy", SessionBusyError, ConflictError),
    (409, "session_exists", SessionExistsError, ConflictError),
    (409, "session_of_other_weights", SessionOfOtherWeightsError, ConflictError),
    (413, "session_full", SessionFullError, RequestTooLargeError),
    (422, "invalid_snapshot", InvalidSnapshotError, UnprocessableEntityError),
    (429, "too_many_sessions", TooManySessionsError, RateLimitError),
    (500, "session_damaged", SessionDamagedError, InternalServerError),
    (503, "session_store_unavailable", SessionStoreUnavailableError, ServiceUnavailableError),
]
ID = "ses-" + "1" * 32


def test_every_kind_is_here() -> None:
    typed = {(status, name): kind for status, name, kind, _ in KINDS}
    about_models = {(404, "model_not_found"), (422, "model_load_failed")}
    assert typed.keys() | about_models | {(504, "deadline_exceeded")} == TYPED_ERRORS.keys()
    assert typed.items() <= TYPED_ERRORS.items()


@pytest.mark.parametrize(
    ("status", "name", "kind", "base"), KINDS, ids=[name for _, name, _, _ in KINDS]
)
def test_kinds(
    connect: Connect,
    server: ContractServer,
    status: int,
    name: str,
    kind: type[APIStatusError],
    base: type[APIStatusError],
) -> None:
    client = connect(server.url, max_retries=0)
    session = client.session(ID)
    for act in (
        lambda: session.generate("x"),
        lambda: session.stream("x").result(),
        session.open,
        session.fork,
        session.snapshot,
        lambda: client.restore(b"x", ID),
        session.delete,
    ):
        server.answer_next(Canned.error(status, name, "because", "session_id"))
        with pytest.raises(base) as caught:
            act()
        error = caught.value
        assert type(error) is kind
        assert (error.type, error.message, error.param) == (name, "because", "session_id")
        assert type(pickle.loads(pickle.dumps(error))) is kind


@pytest.mark.parametrize("status", [400, 418, 500])
def test_a_name_with_another_status_is_what_the_status_says(
    connect: Connect, server: ContractServer, status: int
) -> None:
    server.answer_next(Canned.error(status, "session_busy", "because"))
    with pytest.raises(APIStatusError) as caught:
        connect(server.url, max_retries=0).session(ID).open()
    assert not isinstance(caught.value, ConflictError)


def test_an_error_in_mid_stream(connect: Connect, server: ContractServer) -> None:
    chunk = {"id": "gen-1", "model": "m", "index": 0, "text": "a", "token_ids": [97]}
    error = {"type": "session_store_unavailable", "message": "disk full", "param": None}
    server.answer_next(Canned.events(chunk | {"finish_reason": None}, {"error": error}))
    with connect(server.url).session(ID).stream("x") as stream:
        assert next(stream).text == "a"
        with pytest.raises(StreamError) as caught:
            next(stream)
    assert caught.value.type == "session_store_unavailable"
    assert len(server.received) == 1


@pytest.mark.parametrize("arrived", [True, False])
def test_connection_errors_keep_whether_they_arrived(arrived: bool) -> None:
    error = APIConnectionError("cut", may_have_arrived=arrived)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.may_have_arrived) == ("cut", arrived)
    slow = APITimeoutError("slow", "read" if arrived else "connect")
    assert pickle.loads(pickle.dumps(slow)).may_have_arrived == arrived
