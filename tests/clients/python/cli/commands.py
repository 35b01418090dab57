"""Runs commands of the client, in this process or in one of their own."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import typer
from typer.testing import CliRunner, Result

from tests.clients.python.contract_sessions import MAGIC

ROOT = Path(__file__).parents[4]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python" / "src")])
PATIENCE_S = 20.0
READY = {"status": "ready", "running": 1, "waiting": 2, "pages_used": 3, "pages_total": 4000}
SNAPSHOT = MAGIC + b'{"passages": ["abc"], "token_ids": [1, 2, 3]}'


class Commands:
    """The commands of `causalrn remote`, or those of `causalrn session`."""

    def __init__(self, app: typer.Typer, name: str) -> None:
        self._app = app
        self._command = [sys.executable, "-m", "causalrn_client.cli", name]

    def run(self, *args: object, stdin: bytes = b"", exit_code: int = 0) -> Result:
        """Runs a command in this process; an exception that it does not handle fails the test."""
        result = CliRunner().invoke(
            self._app, [str(arg) for arg in args], input=stdin, catch_exceptions=False
        )
        assert "Traceback" not in result.output
        assert result.exit_code == exit_code, result.output
        return result

    def printed(self, *args: object, stdin: bytes = b"") -> str:
        """What a command prints as its result, if it prints nothing else."""
        result = self.run(*args, stdin=stdin)
        assert result.stderr == ""
        return result.stdout

    def refusal(self, *args: object, stdin: bytes = b"", after: str = "") -> str:
        """The one line with which a command fails, after what it has printed until then."""
        result = self.run(*args, stdin=stdin, exit_code=1)
        assert result.stdout == after
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("error: ").rstrip("\n")

    @contextmanager
    def started(self, *args: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command in a process of its own, which the test has to end."""
        with subprocess.Popen(
            [*self._command, *map(str, args)],
            env=os.environ | {"PYTHONPATH": PATHS} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            yield process
            assert process.poll() is not None, "the test left it running"

    def on_terminal(self, *args: object, stdout: BinaryIO | None = None) -> str:
        """What a command, in a process of its own, shows on a terminal of 120 columns."""
        ours, its = pty.openpty()
        with subprocess.Popen(
            [*self._command, *map(str, args)],
            env=os.environ | {"PYTHONPATH": PATHS, "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stdout=stdout or its,
            stderr=its,
        ) as process:
            os.close(its)
            shown = b""
            with suppress(OSError):  # which is how the end of a terminal is told
                while piece := os.read(ours, 4096):
                    shown += piece
            os.close(ours)
            assert process.wait(PATIENCE_S) == 0
        return shown.decode()
