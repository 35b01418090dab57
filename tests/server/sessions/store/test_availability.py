"""How often the log says that a store does not work."""

import logging

import pytest

from causalrn.server.sessions.store.availability import Availability


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "server")
    return caplog


def test_a_failure_is_told_once_however_many_requests_meet_it(
    told: pytest.LogCaptureFixture,
) -> None:
    store = Availability("the store")
    for _ in range(3):
        store.fails("it is full", "of 5 GB", writing=True)
    store.fails("it is damaged", writing=False)
    assert told.messages == [
        "the store is unavailable: it is full (of 5 GB)",
        "the store is unavailable: it is damaged",
    ]


def test_a_store_that_can_be_written_again_works_again(told: pytest.LogCaptureFixture) -> None:
    store = Availability("the store")
    store.works(writing=True)  # as it always did
    store.fails("it is full", writing=True)
    store.works(writing=False)  # reading does not need what writing lacks
    store.works(writing=True)
    store.fails("it is full", writing=True)
    failed, works, again = told.messages
    assert works == "the store works again"
    assert failed == again == "the store is unavailable: it is full"


def test_a_failure_of_one_session_does_not_make_the_store_unavailable(
    told: pytest.LogCaptureFixture,
) -> None:
    store = Availability("the store")
    store.fails("a log is damaged", writing=False, lasting=True)
    store.works(writing=True)
    store.fails("a log is damaged", writing=False, lasting=True)
    assert told.messages == ["the store is unavailable: a log is damaged"]
