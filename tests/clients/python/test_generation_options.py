"""The fields of a request: the client's are those of the server."""

import inspect
import re
from typing import get_type_hints

import pytest

from causalrn.server.application import create_app
from causalrn_client import (
    AsyncClient,
    AsyncSession,
    BatchOptions,
    Client,
    GenerateOptions,
    SamplingOptions,
    Session,
    TurnOptions,
)
from causalrn_client.requests import generate_call

# The client sends one as a header, and calls the other by another name.
RENAMED = {"request_id": None, "deadline": "timeout"}


@pytest.fixture(scope="module")
def fields_of_the_server() -> set[str]:
    schemas = create_app().openapi()["components"]["schemas"]
    return set(schemas["GenerateRequest"]["properties"])


def test_every_field_of_the_server_can_be_asked_for(fields_of_the_server: set[str]) -> None:
    names = {RENAMED.get(name, name) for name in GenerateOptions.__optional_keys__}
    # The prompt is an argument of its own, and whether to stream is a method.
    assert names - {None} == fields_of_the_server - {"prompt", "stream"}


def test_every_option_may_be_left_to_the_server() -> None:
    assert GenerateOptions.__required_keys__ == frozenset()
    for name, kind in get_type_hints(GenerateOptions).items():
        assert type(None) in kind.__args__, name


def test_every_option_is_documented_once() -> None:
    definitions = (SamplingOptions, TurnOptions, BatchOptions, GenerateOptions)
    told = [
        name
        for definition in definitions
        for name in re.findall(r"^    (\w+): ", inspect.getdoc(definition) or "", re.MULTILINE)
    ]
    assert sorted(told) == sorted(GenerateOptions.__optional_keys__)


@pytest.mark.parametrize("kind", [Client, AsyncClient, Session, AsyncSession])
@pytest.mark.parametrize("method", ["generate", "stream"])
def test_signatures_take_their_options_from_the_definition(kind: type, method: str) -> None:
    expected = TurnOptions if "Session" in kind.__name__ else GenerateOptions
    annotation = inspect.signature(getattr(kind, method)).parameters["options"].annotation
    assert annotation.__args__ == (expected,)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_token'"):
        generate_call("x", stream=False, max_token=1)  # type: ignore[call-arg]
