"""Every Python example of the README runs, and prints what the README says."""

import io
import re
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clients.python.contract_server import ContractServer

README = Path(__file__).parents[3] / "clients" / "python" / "README.md"
ADDRESS = "http://127.0.0.1:8000"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (code, output) for (language, code), (_, output) in pairwise(BLOCKS) if language == "python"
]


def test_every_example_shows_its_output() -> None:
    languages = [language for language, _ in BLOCKS]
    after = [b for a, b in zip(languages, [*languages[1:], None], strict=True) if a == "python"]
    assert after == ["text"] * 4


@pytest.mark.parametrize(("code", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(
    server: ContractServer, code: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ADDRESS in code
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    # The address is all that is changed: a free port takes the place of the default one.
    program = compile(code.replace(ADDRESS, server.url), README, "exec")
    with redirect_stdout(printed):
        exec(program, {"__name__": "__main__"})
    assert printed.getvalue() == output
    assert server.received
