"""How `causalrn` takes up the commands of other packages, those about sessions among them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from causalrn.model.cli import app
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import Reply, raw_server

ROOT = Path(__file__).parents[3]
PLUGIN = """
import typer
app = typer.Typer(help="What it adds.")
@app.command()
def first() -> None: print("the first")
@app.command()
def second() -> None: print("the second")
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, as pip would have left it, whose entry points are for the test to write."""
    (tmp_path / "added_commands.py").write_text(PLUGIN)
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return info


def add(packages: Path, *lines: str) -> None:
    text = "\n".join(["[causalrn.commands]", *lines])
    (packages / "entry_points.txt").write_text(text)


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(app, args, env=env, catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def complete(words: str, **env: str) -> list[str]:
    """What the Tab key offers."""
    variables = {
        "_CAUSALRN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    result = run(env=variables | env)
    assert result.stderr == ""
    return result.stdout.split()


def test_help_lists_sessions() -> None:
    result = run("--help")
    assert "Keep sessions on a server" in result.stdout
    assert result.stderr == ""
    assert "causalrn session show [OPTIONS]" in run("session", "show", "--help").stdout


def test_sessions_are_commands(server: ContractServer) -> None:
    created = run("session", "create", "--url", server.url)
    assert created.stdout.rstrip("\n") in server.sessions.logs
    failed = run("session", "show", "ses-1", env={"CAUSALRN_BASE_URL": server.url})
    assert (failed.exit_code, failed.stderr.count("\n")) == (1, 1)


def test_remote_is_a_command(packages: Path, server: ContractServer) -> None:
    scripts = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text("utf-8"))["project"]
    value = scripts["entry-points"]["causalrn.commands"]["remote"]
    add(packages, f"remote = {value}")  # also where the package was installed before it had it
    assert "Talk to a server" in run("--help").stdout
    env = {"CAUSALRN_BASE_URL": server.url}
    assert run("remote", "generate", "hello", env=env).stdout == "hello"
    answer = Canned.of({"data": [{"id": "copy-bytes"}, {"id": "copy-letters"}, {"id": "other"}]})
    server.answer_next(*[answer] * 2)
    assert complete("causalrn remote load copy", **env) == ["copy-bytes", "copy-letters"]
    assert complete("causalrn remote info --model o", **env) == ["other"]
    assert complete("causalrn remote load c", CAUSALRN_BASE_URL="nowhere") == []


def test_help_waits_for_no_http_client() -> None:
    program = (
        "import sys; from causalrn.model.cli import app; app(['--help'], standalone_mode=False); "
        "assert 'causalrn_client.cli' in sys.modules; sys.exit('httpx' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def test_a_package_adds_a_command(packages: Path) -> None:
    add(packages, "added = added_commands:app")
    assert "What it adds." in run("--help").stdout
    assert run("added", "second").stdout == "the second\n"
    assert complete("causalrn add") == ["added"]
    assert complete("causalrn added s") == ["second"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:app", "ModuleNotFoundError"),
        ("added_commands:absent", "AttributeError"),
        ("added_commands:PLUGIN", "AttributeError"),
        ("added_commands:typer", "AttributeError"),
    ],
)
def test_one_that_is_broken_is_told_and_left_out(packages: Path, value: str, reason: str) -> None:
    add(packages, f"added = {value}", "other = added_commands:app")
    result = run("--help")
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"warning: cannot load 'added' from {value}: {reason}")
    assert all(name in result.stdout for name in ("train", "generate", "session", "other"))
    assert run("added").exit_code == 2
    assert run("train", "--help").stderr == ""
    assert run("other", "first").output == "the first\n"
    assert complete("causalrn ad") == []


def test_none_takes_the_place_of_an_own_command(packages: Path) -> None:
    add(packages, "train = added_commands:app")
    assert "What it adds." not in run("--help").stdout
    assert "Train a preset" in run("train", "--help").stdout


class TestTab:
    def test_ids(self, server: ContractServer) -> None:
        ids = [server.sessions.add().id for _ in range(3)]
        env = {"CAUSALRN_BASE_URL": server.url}
        assert complete("causalrn session show ses-", **env) == ids
        assert complete(f"causalrn session delete {ids[0]} {ids[1]}", **env) == [ids[1]]
        assert complete(f"causalrn session fork --url {server.url} ses-") == ids
        assert complete("causalrn session show x", **env) == []

    def test_of_a_server_that_does_not_answer(
        self, server: ContractServer, unused_url: str
    ) -> None:
        assert complete("causalrn session show ses-", CAUSALRN_BASE_URL=unused_url) == []
        assert complete("causalrn session show ses-", CAUSALRN_BASE_URL="nowhere") == []
        server.answer_next(Canned(500), Canned(body=b"<html>"))
        for _ in range(2):
            assert complete("causalrn session show ses-", CAUSALRN_BASE_URL=server.url) == []
        with raw_server(Reply(then_silence=True)) as silent:
            assert complete("causalrn session show ses-", CAUSALRN_BASE_URL=silent.url) == []
