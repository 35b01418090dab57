"""What the Makefile chooses, and where `make serve` serves."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def interpreter(file: Path, version: str) -> Path:
    """This Python, which says that it is of another version."""
    file.parent.mkdir(exist_ok=True)
    lie = f"import sys; sys.version_info = ({version.replace('.', ', ')}); exec(sys.argv[1])"
    file.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo Python {version}\n'
        f'shift\nexec {sys.executable} -c "{lie}" "$1"\n'
    )
    file.chmod(0o755)
    return file


def make(*arguments: object, path: Path, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--no-print-directory", *map(str, arguments)],
        cwd=folder,
        env={"PATH": f"{path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("chosen", ["3.11.0", "3.12.1", "3.14.9"])
def test_a_python_is_chosen_that_the_pinned_versions_have_packages_for(
    tmp_path: Path, chosen: str
) -> None:
    interpreter(tmp_path / "python3", "3.15.0")
    interpreter(tmp_path / "python3.13", "3.10.4")
    name = "python" + chosen.rpartition(".")[0]
    interpreter(tmp_path / name, chosen)
    done = make("--eval", "show: ; @echo $(PYTHON)", "show", path=tmp_path)
    assert done.stdout == f"{name}\n", done.stderr


@pytest.mark.parametrize("version", ["3.10.4", "3.15.0"])
def test_another_python_is_refused_by_its_version(tmp_path: Path, version: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "clients/python/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = interpreter(tmp_path / "python", version)
    done = make("install", f"PYTHON={python}", path=tmp_path, folder=tmp_path)
    assert done.returncode == 2
    error = f"error: CausalRN needs Python 3.11 to 3.14, and {python} is Python {version}."
    assert done.stderr.splitlines()[0] == error
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("host", ["HOST=", "HOST=::"])
def test_everywhere_is_ipv4_and_ipv6(host: str) -> None:
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    command = ["make", "-o", ".venv/.installed", "serve", host, f"PORT={port}"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            while b"Uvicorn running on" not in (line := process.stderr.readline()):
                assert line
            for address in ("127.0.0.1", "::1"):
                connection = http.client.HTTPConnection(address, port, timeout=20)
                connection.request("GET", "/health/live")
                assert connection.getresponse().status == 200
                connection.close()
        finally:
            process.terminate()
