"""Both clients against a server of several models, with keys."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalrn_client import (
    AuthenticationError,
    ConflictError,
    ModelNotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.server.admin_client import KEY, KEYS
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.shelf import Shelf


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveServer]:
    """A server of `a`, the default model, and `b`; `c` can be loaded."""
    shelf = Shelf(tmp_path / "models", "a", "b", "c")
    users = [
        {"name": name, "hash": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"} | quotas
        for name, quotas in (("user", {}), ("hurried", {"requests_per_minute": 1}))
    ]
    settings = shelf.settings("a", "b")
    keys = json.dumps([*json.loads(KEYS), *users])
    changed = settings.model_validate(settings.model_dump() | {"api_keys": keys})
    with serve(FakeModel(), changed, load=shelf) as live:
        yield live


@pytest.fixture
def admin(connect: Connect, live: LiveServer) -> AnyClient:
    return connect(live.url, api_key=KEY)


def test_calls_go_to_the_model_that_is_named(
    connect: Connect, live: LiveServer, admin: AnyClient
) -> None:
    assert [model.id for model in admin.models()] == ["a", "b"]
    assert admin.generate("hi").model == "a"
    assert admin.generate("hi", model="b").model == "b"
    assert admin.stream("hi", model="b").result().model == "b"
    assert admin.info(model="b").model == "b"
    with pytest.raises(ModelNotFoundError, match="this server has a, b"):
        admin.info(model="c")
    of_b = connect(live.url, api_key=KEY, model="b")
    assert of_b.generate("hi").model == of_b.info().model == of_b.score("hi", "hi").model == "b"
    assert of_b.generate("hi", model="a").model == "a"


def test_sessions_belong_to_models(admin: AnyClient) -> None:
    with admin.session(model="b") as session:
        assert session.generate("hi").model == "b"
        assert session.info().model == "b"
        with pytest.raises(SessionOfOtherWeightsError):
            admin.generate("hi", session_id=session.id, model="a")
        admin.unload_model("b")
        assert session.info().state == "cold"
        with pytest.raises(SessionOfOtherWeightsError):
            session.generate("hi")
        admin.load_model("b")
        assert session.generate("ho").text == "ho"


def test_models_come_and_go(admin: AnyClient) -> None:
    assert {model.name: model.status for model in admin.admin_models()} == {
        "a": "serving",
        "b": "serving",
        "c": "available",
    }
    loaded = admin.load_model("c")
    assert (loaded.name, loaded.status) == ("c", "serving")
    assert admin.generate("hi", model="c").model == "c"
    admin.unload_model("c")
    with pytest.raises(ModelNotFoundError):
        admin.generate("hi", model="c")
    with pytest.raises(ConflictError):
        admin.unload_model("a")
    with pytest.raises(ModelNotFoundError):
        admin.load_model("d")


def test_what_a_key_may_not(connect: Connect, live: LiveServer, admin: AnyClient) -> None:
    with pytest.raises(AuthenticationError):
        connect(live.url).generate("hi")
    with pytest.raises(AuthenticationError) as unknown:
        connect(live.url, api_key="guessed").generate("hi")
    assert "guessed" not in str(unknown.value)
    user = connect(live.url, api_key="user")
    assert user.generate("hi").text == "hi"
    with pytest.raises(PermissionDeniedError):
        user.admin_models()
    with admin.session() as session, pytest.raises(SessionNotFoundError):
        user.generate("hi", session_id=session.id)
    hurried = connect(live.url, api_key="hurried", max_retries=0)
    hurried.generate("hi")
    with pytest.raises(RateLimitError) as limited:
        hurried.generate("hi")
    assert limited.value.retry_after is not None
    assert 0 < limited.value.retry_after <= 60
