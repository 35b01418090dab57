from typing import Any

import pytest

from causalrn.server.application import create_app
from tests.server.failed_start import failed_start
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer


@pytest.mark.parametrize(
    ("name", "value"),
    [("POOL_BYTES", "lots"), ("MAX_WAITING", "-1"), ("LOG_LEVEL", "loud")],
)
def test_a_bad_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"CAUSALRN_{name}", value)
    message = failed_start(create_app(load=lambda _: FakeModel()))
    assert message.startswith(f"CAUSALRN_{name}")
    assert "\n" not in message


def test_settings_that_contradict_each_other_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAUSALRN_MAX_RUNNING", "1000")
    monkeypatch.setenv("CAUSALRN_MAX_BATCH_TOKENS", "256")
    message = failed_start(create_app(load=lambda _: FakeModel()))
    assert "max_batch_tokens (256) must be at least max_running (1000)" in message


def document() -> dict[str, Any]:
    return create_app().openapi()


def test_the_openapi_document_has_no_errors_of_another_shape() -> None:
    schemas = document()["components"]["schemas"]
    assert not [name for name in schemas if "ValidationError" in name]
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    schema = response["content"]["application/json"]["schema"]
                    name = "OpenAIErrorResponse" if path.startswith("/v1/") else "ErrorResponse"
                    assert schema == {"$ref": f"#/components/schemas/{name}"}, path


def test_generate_is_documented_whole() -> None:
    operation = document()["paths"]["/generate"]["post"]
    assert sorted(operation["responses"]) == [
        "200",
        "400",
        "401",
        "404",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    ]
    content = operation["responses"]["200"]["content"]
    assert sorted(content) == ["application/json", "text/event-stream"]
    assert content["text/event-stream"]["example"].endswith("data: [DONE]\n\n")


def test_sessions_are_documented_whole() -> None:
    paths = document()["paths"]
    documented = {
        f"{method} {path.removeprefix('/sessions')}": sorted(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
        if path.startswith("/sessions")
    }
    assert documented == {
        "post ": ["201", "400", "401", "404", "413", "415", "422", "429", "503"],
        "get ": ["200", "401", "422", "429", "503"],
        "get /{session_id}": ["200", "401", "404", "422", "429", "500", "503"],
        "delete /{session_id}": ["204", "401", "404", "422", "429", "503"],
        "post /{session_id}/fork": [
            "201", "400", "401", "404", "409", "413", "415", "422", "429", "500", "503",
        ],
        "get /{session_id}/snapshot": [
            "200", "401", "404", "409", "413", "422", "429", "500", "503",
        ],
        "put /{session_id}/snapshot": [
            "200", "201", "401", "409", "413", "415", "422", "429", "503",
        ],
    }  # fmt: skip


def test_every_documented_example_works(shared: LiveServer) -> None:
    request = document()["paths"]["/generate"]["post"]["requestBody"]
    examples = request["content"]["application/json"]["examples"]
    assert len(examples) == 5
    for example in examples.values():
        response = shared.post(example["value"])
        if "session_id" in example["value"]:
            assert response.json()["error"]["type"] == "session_not_found"
        else:
            assert response.status_code == 200


def test_the_docs_are_there(shared: LiveServer) -> None:
    with shared.client() as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").json() == document()
