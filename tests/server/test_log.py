"""The log has one format, from its first line on, whoever wrote the line."""

import json
import logging
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime

import httpx
import pytest
from uvicorn.logging import AccessFormatter

from causalrn.server.log import _formatter, format_uvicorn
from tests.server.test_draining import process

TEXT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [a-z_.]+: \S.*\n")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_line_has_the_format_that_is_set(
    monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    monkeypatch.setenv("CAUSALRN_LOG_FORMAT", log_format)
    with process(step_seconds=0, drain_seconds=1) as server:
        with httpx.Client(base_url=server.url, headers={"x-request-id": "find-me"}) as client:
            assert client.post("/generate", json={"prompt": "hi"}).status_code == 200
            assert client.post("/generate", json={"prompt": 1}).status_code == 422
        with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), 20) as raw:
            raw.sendall(b"NONSENSE\r\n\r\n")
            assert b" 400 " in raw.recv(4096)
        server.process.terminate()
        server.end()
    lines = server.log.splitlines(keepends=True)
    for text in ("Started server process", "Uvicorn running on", " 400 ", "Finished server"):
        assert [text in line for line in lines].count(True) == 1
    assert "Invalid HTTP request" not in server.log  # the line about the answer says it
    if log_format == "text":
        assert [line for line in lines if not TEXT.fullmatch(line)] == []
        return
    records = [json.loads(line) for line in lines]
    for record in records:
        assert {"time", "level", "logger", "message"} <= record.keys()
        assert "color_message" not in record
        written = datetime.fromisoformat(record["time"])
        assert abs((datetime.now(UTC) - written).total_seconds()) < 60
    found = [one for one in records if one.get("request_id") == "find-me"]
    assert [(one["logger"].rpartition(".")[2], one.get("status")) for one in found] == [
        ("readers", None),
        ("answers", 200),
        ("answers", 422),
    ]


def test_nobody_can_forge_a_line() -> None:
    words = "a\nERROR server: forged\r\u2028\x1b[2J ü\n"
    record = logging.LogRecord("server", logging.INFO, "", 1, "%s", (words,), None)
    (line,) = _formatter("text").format(record).splitlines()
    assert line.endswith("server: a\\nERROR server: forged\\r\\u2028\\x1b[2J ü")
    (line,) = _formatter("json").format(record).splitlines()
    assert json.loads(line)["message"] == words


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        record = logging.LogRecord("server", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    assert _formatter("text").format(record).count("\n") >= 3
    assert "ZeroDivisionError" in json.loads(_formatter("json").format(record))["exc_info"]


def test_warnings_of_libraries_have_the_format_too() -> None:
    program = (
        "import logging; from causalrn.server.log import show_log;"
        "from causalrn.server.settings import Settings;"
        "show_log(Settings()); logging.getLogger('asyncio').warning('slow')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(TEXT, done.stderr)
    assert done.stderr.endswith("WARNING asyncio: slow\n")


def test_what_somebody_has_set_up_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = logging.StreamHandler()
    theirs.setFormatter(logging.Formatter("%(message)s"))
    uvicorns = logging.StreamHandler()
    uvicorns.setFormatter(AccessFormatter())
    monkeypatch.setattr(logging.getLogger("uvicorn"), "handlers", [theirs])
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "handlers", [theirs, uvicorns])
    format_uvicorn("json")
    assert logging.getLogger("uvicorn.access").handlers == [theirs]
    assert theirs.formatter is not None
    assert theirs.formatter._fmt == "%(message)s"
