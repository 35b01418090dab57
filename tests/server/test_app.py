import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.app import create_app
from tests.server.conftest import make_settings
from tests.server.failed_start import failed_start
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_checkpoint_ends_uvicorn_with_one_clear_line(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "uvicorn", "server.app:app", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"CAUSALRN_CHECKPOINT": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 3
    reason, ending = [line for line in process.stderr.splitlines() if " ERROR " in line]
    assert str(tmp_path / "nowhere") in reason
    assert "Set CAUSALRN_CHECKPOINT" in reason
    assert "Application startup failed" in ending
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("POOL_BYTES", "lots"), ("MAX_WAITING", "-1"), ("LOG_LEVEL", "loud"), ("POOL_BYTES", "500")],
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


def test_a_failure_that_nobody_expected_keeps_its_traceback() -> None:
    def fail(_: Path) -> FakeModel:
        raise ZeroDivisionError

    assert "Traceback" in failed_start(create_app(make_settings(), load=fail))


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
