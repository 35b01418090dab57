"""What docs/sessions.md shows is what happens."""

import re
import subprocess
from pathlib import Path

from tests.programs import program

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "sessions.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def test_every_curl_runs(server_url: str, tmp_path: Path) -> None:
    program("curl")
    blocks = [
        block for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) if "curl" in block
    ]
    assert ADDRESS in blocks[0]
    script = "\n".join(blocks).replace(ADDRESS, server_url).replace("curl", "curl --fail-with-body")
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    answers = done.stdout.split("}{")
    assert re.findall(r'"text":"(.*?)"', done.stdout) == [
        "first things first",
        "and then the rest",
        "cut off",
        " in the middle",
    ]
    for name in ("cached_tokens", "n_tokens"):
        [shown] = re.findall(rf'"{name}":\d+', DOCUMENT)
        assert shown in answers[1]
