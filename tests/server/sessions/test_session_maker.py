"""New sessions, and the limits on how many there are and how long they last."""

from pathlib import Path

import pytest

from causalrn.server.errors import InvalidRequestError, TooManySessionsError
from causalrn.server.sessions.session_maker import SessionMaker
from causalrn.server.sessions.store.base import SessionStore
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.sessions.serving import Somebody
from tests.server.sessions.store.stores import log_of, opened


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/sessions.db"


def maker(store: SessionStore, **settings: object) -> SessionMaker:
    return SessionMaker(store, make_settings(session_ttl=100.0, **settings))


@in_loop
async def test_a_session_lasts_as_long_as_wanted_and_at_most_as_long_as_allowed(url: str) -> None:
    async with opened(url) as store:
        assert maker(store).ttl(None) == 100
        assert maker(store).ttl(5) == 5
        assert maker(store).ttl(100) == 100
        with pytest.raises(InvalidRequestError, match="ttl_seconds: must be at most 100") as told:
            maker(store).ttl(100.5)
        assert told.value.param == "ttl_seconds"


@in_loop
async def test_a_new_session_is_empty_and_its_makers(url: str) -> None:
    async with opened(url) as store:
        anna, model = Somebody("anna", "anna"), FakeModel()
        record = await maker(store).record(model, 5, anna)
        assert (record.owner, record.model, record.fingerprint) == (
            "anna", model.name, model.fingerprint
        )  # fmt: skip
        assert (record.n_tokens, record.ttl, record.busy) == (0, 5, False)
        assert record.expires_at == record.created_at + 5
        assert (await maker(store).record(model, 5, anna, "ses-1")).id == "ses-1"


@in_loop
async def test_ids_sort_in_the_order_in_which_sessions_were_made(url: str) -> None:
    async with opened(url) as store:
        records = [await maker(store).record(FakeModel(), 5, Somebody()) for _ in range(50)]
        times = [one.created_at for one in records]
        by_id = sorted(records, key=lambda one: one.id)
        assert [one.created_at for one in by_id] == times
        assert len({one.id for one in records}) == 50


@in_loop
async def test_a_child_has_the_model_and_owner_of_its_parent_and_a_time_of_its_own(
    url: str,
) -> None:
    async with opened(url) as store:
        parent = await maker(store).record(FakeModel(), 5, Somebody("anna"))
        child = await maker(store).child(parent, 7)
        assert (child.owner, child.model, child.fingerprint) == (
            "anna", parent.model, parent.fingerprint
        )  # fmt: skip
        assert child.id > parent.id
        assert child.created_at > parent.created_at
        assert child.ttl == 7


@in_loop
async def test_a_server_has_a_limit_of_sessions(url: str) -> None:
    async with opened(url) as store:
        making = maker(store, max_sessions=1)
        first, second = [await making.record(FakeModel(), 5, Somebody()) for _ in range(2)]
        await making.add(first, [1, 2], Somebody())
        assert await log_of(store, first.id) == [1, 2]
        with pytest.raises(TooManySessionsError):
            await making.add(second, [], Somebody())


@in_loop
async def test_sessions_that_an_administrator_forks_do_not_count_as_the_administrators(
    url: str,
) -> None:
    async with opened(url) as store:
        making = maker(store)
        anna, admin = Somebody("anna", "anna", 5), Somebody("root", None, 1)
        annas, admins = [await making.record(FakeModel(), 5, one) for one in (anna, admin)]
        await making.add(annas, [], anna)
        await making.add(admins, [], admin)
        await making.add(await making.child(annas, 5), [], admin)
        with pytest.raises(TooManySessionsError):
            await making.add(await making.child(admins, 5), [], admin)
