"""Running the `causalrn` command in tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model import checkpoint as checkpoint_module
from model.cli import app
from tests.model.tiny import Script, copying, scripted_checkpoint

ROOT = Path(__file__).parents[2]


def run(*args: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
    """The command in this process; whatever it does not handle fails the test."""
    result = CliRunner().invoke(
        app, [str(arg) for arg in args], input=stdin, env=env, catch_exceptions=False
    )
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
    program = "from model.cli import app; app(prog_name='causalrn')"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def use_script(monkeypatch: pytest.MonkeyPatch, script: Script, tokenizer: str) -> None:
    """Let every checkpoint be one whose decoder follows a script."""
    scripted = scripted_checkpoint(script, tokenizer)
    monkeypatch.setattr(checkpoint_module, "load_checkpoint", lambda _: scripted)


def perfect_copier(monkeypatch: pytest.MonkeyPatch, tokenizer: str = "bytes") -> None:
    use_script(monkeypatch, copying(scripted_checkpoint(len, tokenizer).config), tokenizer)
