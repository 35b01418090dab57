"""What docs/security.md shows is what happens."""

import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from causalrn.server.api.comments import COMMENT_SECONDS
from causalrn.server.http.connection_guard import KEEP_ALIVE_SECONDS
from causalrn.server.http.head_limits import (
    MAX_HEAD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_URL_BYTES,
)
from causalrn.server.http.json_body import MAX_KEYS
from causalrn.server.http.protocol import GuardedProtocol
from causalrn.server.http.secure_headers import SECURE_HEADERS
from tests.end_to_end.served import served
from tests.programs import program

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
COMMANDS = "[causalrn.commands]\nkey = server.auth.key_command:app\n"


def run(script: str, folder: Path, **environment: str) -> tuple[str, str]:
    """Output and error output of commands that must succeed."""
    program("curl")
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout, done.stderr


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_examples_work(tmp_path: Path) -> None:
    make, *requests = blocks("sh")
    (entry,), (shown,) = blocks("toml"), blocks("text")
    # An installation may be older than the command.
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(COMMANDS)
    program = f"#!{sys.executable}\nfrom causalrn.model.cli import app\napp(prog_name='causalrn')\n"
    (tmp_path / "causalrn").write_text(program)
    (tmp_path / "causalrn").chmod(0o700)
    path, modules = f"{tmp_path}:{os.environ['PATH']}", f"{tmp_path}:{ROOT}"
    _, said = run(make, tmp_path, PATH=path, PYTHONPATH=modules)
    key, admin = re.findall(r"^crn-\S+$", said, re.MULTILINE)

    file = tmp_path / "keys.toml"
    made = tomllib.loads(file.read_text())["key"]
    quotas = tomllib.loads(entry)["key"][0]
    assert [one["name"] for one in made] == ["alice", "carol"]
    assert made[0].keys() < quotas.keys()
    file.write_text(
        entry.replace(quotas["hash"], made[0]["hash"])
        + file.read_text().partition("\n\n")[2]  # carol's is left as it was made
    )
    with served(CAUSALRN_API_KEYS_FILE=str(file)) as url:
        script = "\n".join(requests).replace(ADDRESS, url)
        output, _ = run(script, tmp_path, key=key)
        assert '"text":"hello"' in output
        got = output.lower().splitlines()
        for line in shown.splitlines():
            assert line in got
        document = f'curl -sS --fail -H "authorization: Bearer $key" {url}/openapi.json'
        assert document.replace(url, ADDRESS).replace(" -sS --fail", "") in DOCUMENT
        for one in (key, admin):
            assert '"openapi":"3.' in run(document, tmp_path, key=one)[0]


def test_the_numbers_are_those_of_the_program() -> None:
    for number in (
        f"URL | {MAX_URL_BYTES} bytes",
        f"headers | {MAX_HEADERS}, and {MAX_HEADER_BYTES} bytes",
        f"head, trailers, extensions of a chunk | {MAX_HEAD_BYTES} bytes",
        f"time for a head | {GuardedProtocol.head_seconds:g} s",
        f"body that was refused | {GuardedProtocol.head_seconds:g} s",
        f"when buffers are full | {GuardedProtocol.write_seconds:g} s",
        f"{MAX_KEYS} keys an object",
        f"on a connection | {KEEP_ALIVE_SECONDS} s",
        f"comment line every {COMMENT_SECONDS:g} s",
    ):
        assert f"{number}" in DOCUMENT
    for name, value in SECURE_HEADERS.items():
        assert f"`{name}: {value}`" in DOCUMENT or name == "content-security-policy"


def test_plain_uvicorn_waits_for_no_head_for_ever() -> None:
    """Not in a thread of the test, but started as users start it."""
    with served() as url:
        address = urlsplit(url)
        assert address.hostname is not None
        slow, endless = (
            socket.create_connection((address.hostname, address.port or 0), 30) for _ in range(2)
        )
        with slow, endless:
            slow.sendall(b"GET /info HTTP/1.1\r\nhost: te")
            endless.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * (MAX_HEAD_BYTES + 1))
            assert b" 431 " in endless.recv(100)
            assert b" 408 " in slow.recv(100)
