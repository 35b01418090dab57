"""What docs/models.md shows is what happens."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.programs import program
from tests.server.admin_client import KEY

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def test_every_curl_runs(two_models_url: str) -> None:
    program("curl")
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    start, *commands = blocks
    assert "CAUSALRN_CHECKPOINT=checkpoints/copy-bytes:checkpoints/copy-az" in start
    assert ADDRESS in commands[0]
    script = "\n".join(commands).replace(ADDRESS, two_models_url)
    script = script.replace("curl -sS", "curl -sS --fail-with-body -w '\\n'")
    done = subprocess.run(
        ["bash", "-ec", script],
        env=os.environ | {"ADMIN_KEY": KEY},
        capture_output=True,
        check=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert lines[4] == ""  # unloaded
    copied, info, models, loaded, turn = [json.loads(line) for line in lines if line]
    assert (copied["model"], copied["text"]) == ("copy-az", "abracadabra")
    assert (info["model"], info["models"]) == ("copy-az", ["copy-bytes", "copy-az"])
    statuses = {model["name"]: model["status"] for model in models["models"]}
    assert statuses["copy-az"] == "serving"
    assert statuses["exact-bytes"] == "available"
    assert (loaded["name"], loaded["status"]) == ("exact-bytes", "serving")
    assert (turn["model"], turn["text"]) == ("copy-az", "first")
