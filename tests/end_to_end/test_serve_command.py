"""`causalrn serve`, in a folder where a user has modules of the same names."""

import sys
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from causalrn.model.shipped import shipped_names
from causalrn.server.serve_command import app
from tests.end_to_end.served import ROOT, serving

COMMAND = (
    *(sys.executable, "-P", "-c"),
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from causalrn.model.cli import app; app()",
    "serve",
)


def test_models_are_served_in_their_order(tmp_path: Path) -> None:
    for name in ("model.py", "server.py"):
        (tmp_path / name).write_text("raise ImportError('this is the user's own')")
    command = (*COMMAND, "exact-bytes-small", "copy-az")
    with serving(command, tmp_path) as url:
        names = [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]]
        assert names == ["exact-bytes-small", "copy-az"]
        answer = httpx.post(f"{url}/generate", json={"prompt": "as it is"}, timeout=60).json()
        assert answer["text"] == "as it is"


def test_it_is_a_command() -> None:
    (found,) = entry_points(group="causalrn.commands", name="serve")
    assert found.load() is app


@pytest.mark.parametrize("name", ["exact", "/none"])
def test_what_is_not_there_is_refused(name: str) -> None:
    result = CliRunner().invoke(app, [name])
    assert result.exit_code == 1
    assert f"{name}: no such checkpoint; there are {', '.join(shipped_names())}" in result.stderr
