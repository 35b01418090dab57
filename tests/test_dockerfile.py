"""What the Dockerfile names is there. To build the image needs a container engine."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """The values of an instruction, in order; lines that go on are joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


COPIED = sorted(
    {
        source
        for value in instructions("COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    }
)


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_exists_and_is_sent_to_the_builder(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_nothing_else_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == set(COPIED)


def test_torch_has_the_version_of_the_constraints() -> None:
    (pin,) = re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert set(re.findall(r"torch==\S+", DOCKERFILE)) == {pin}
    assert f"pip install {pin} " in (ROOT / "Makefile").read_text()


def test_all_stages_have_a_python_that_the_project_supports() -> None:
    stages = [value.partition(" AS ") for value in instructions("FROM")]
    (image,) = {image for image, _, _ in stages} - {name for _, _, name in stages}
    assert re.fullmatch(r"python:3\.1[1-9]-slim", image)


def test_what_is_run_can_be_imported() -> None:
    (command,) = instructions("CMD")
    program, app = json.loads(command)
    assert program == "uvicorn"
    modules = [app.partition(":")[0], *re.findall(r"python -m (causalrn\.\S+)", DOCKERFILE)]
    assert modules == ["server.app", "causalrn.server.precompile"]
    assert all(importlib.util.find_spec(module) for module in modules)


def test_the_user_who_runs_it_may_write_what_it_keeps() -> None:
    (user,) = set(instructions("USER"))
    (volume,) = instructions("VOLUME")
    assert user != "root"
    assert f"CAUSALRN_SESSION_STORE={volume}/" in DOCKERFILE
    # Some clusters give each container a user of its own, always in the group 0.
    directory = f"install --directory --owner={user} --group=0 --mode=2775"
    installs = re.findall(rf"{directory} (.*)$", DOCKERFILE, re.MULTILINE)
    assert installs == [f"/var/cache/numba {volume}", "/var/cache/triton"]


def test_the_last_stage_is_for_the_cpu_and_another_one_for_a_gpu() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    (cuda,) = (stage for stage in stages if stage.startswith("base AS cuda\n"))
    assert "CAUSALRN_DEVICE=cuda" in cuda
    assert "--from=cuda-builder" in cuda
    assert stages[-1].startswith("base\n")
    assert "CAUSALRN_DEVICE" not in stages[-1]
    assert "--target cuda" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::", "::1"])
def test_the_health_check_finds_the_server_wherever_it_listens(host: str) -> None:
    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    command[0] = sys.executable
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "UVICORN_HOST": host,
        "UVICORN_PORT": str(port),
        "STEP_SECONDS": "0",
        "DRAIN_SECONDS": "0",
    }
    uvicorn = [sys.executable, "-m", "uvicorn", "tests.server.slow_app:app"]
    assert subprocess.run(command, env=environment, check=False).returncode != 0
    with subprocess.Popen(uvicorn, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as server:
        try:
            assert server.stderr is not None
            while b"INFO causalrn.server.start: ready" not in (line := server.stderr.readline()):
                assert line
            assert subprocess.run(command, env=environment, check=False).returncode == 0
        finally:
            server.kill()
