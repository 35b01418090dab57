"""Running the `causalrn` command in tests."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from causalrn.model import checkpoint as checkpoint_module
from causalrn.model.cli import app
from causalrn.model.ops.cpu import jit
from tests.model.tiny import Matching, Script, copying, scripted_checkpoint

ROOT = Path(__file__).parents[2]
_PROGRAM = (sys.executable, "-c", "from causalrn.model.cli import app; app(prog_name='causalrn')")


def run(*args: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
    """The command in this process; whatever it does not handle fails the test."""
    kernels, others = jit.num_threads(), torch.get_num_threads()
    try:
        result = CliRunner().invoke(
            app, [str(arg) for arg in args], input=stdin, env=env, catch_exceptions=False
        )
    finally:  # which `--threads` changes for the whole process
        jit.set_num_threads(kernels)
        torch.set_num_threads(others)
    assert "Traceback" not in result.output
    return result


def refusal(*args: object, stdin: bytes = b"") -> str:
    result = run(*args, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip("\n")


def start(*args: object) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [*_PROGRAM, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def on_terminal(*args: object, **environment: str) -> tuple[int, str]:
    """The command in a process of its own on a terminal; its exit status, and what it shows."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*_PROGRAM, *map(str, args)],
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        shown = b""
        with suppress(OSError):  # which is how the end of a terminal is told
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
    # Numba uses colorama if it is there, as a tool of the tests makes it; that ends with a reset.
    text = shown.decode().replace("\r\n", "\n").removesuffix("\x1b[0m")
    return process.returncode, text


def use_script(
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    tokenizer: str,
    matching: Matching = lambda _: None,
) -> None:
    """Let every checkpoint be one whose decoder follows a script."""
    scripted = scripted_checkpoint(script, tokenizer, matching=matching)
    monkeypatch.setattr(checkpoint_module, "load_checkpoint", lambda _, **__: scripted)


def perfect_copier(monkeypatch: pytest.MonkeyPatch, tokenizer: str = "bytes") -> None:
    use_script(monkeypatch, copying(scripted_checkpoint(len, tokenizer).config), tokenizer)
