"""Schemathesis finds no fault with the OpenAPI document, nor with the server behind it.

It has all its checks on and goes through all its phases: documented examples, every boundary of
every schema, random valid and invalid requests, and chains of operations. A longer run:
`make conformance EXAMPLES=1000`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from causalrn.server.auth.key_format import new_key
from tests.end_to_end.served import served
from tests.server.conftest import PAGE, SLOT, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import serve

# The document says that a key is needed, which is so if there are any.
KEY, _HASH = new_key()
KEYS = json.dumps([{"name": "tester", "hash": _HASH, "role": "admin"}])
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = os.environ.get("EXAMPLES", "25")  # random requests of every operation


def run_schemathesis(url: str, folder: Path, *options: str) -> Mapping[str, Any]:
    """The report of a run without findings."""
    report = folder / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(HERE / "schemathesis.toml")),
            *("run", f"{url}/openapi.json", "--report-json-path", str(report), *options),
            *("--header", f"Authorization: Bearer {KEY}"),
        ],
        cwd=ROOT,  # where the configuration looks for hooks.py
        env=os.environ | {"CONFORMANCE_URL": url, "CONFORMANCE_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def assert_whole(report: Mapping[str, Any], url: str) -> None:
    """Nothing was left out: every operation of the document, and each of them was reached."""
    headers = {"authorization": f"Bearer {KEY}"}
    document = httpx.get(f"{url}/openapi.json", headers=headers).raise_for_status().json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert report["complete"]
    assert report["operations"]["tested"] == len(operations)
    assert {phase: found["status"] for phase, found in report["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    assert {
        operation
        for operation, phases in report["valid_rates"].items()
        if any(answers["accepted"] for answers in phases.values())
    } == operations


def test_every_request_to_a_model_that_watches_its_use(tmp_path: Path) -> None:
    # Few tokens at a time, so that no session becomes full.
    models = tmp_path / "models"
    settings = make_settings(
        pool_bytes=512 * PAGE + 8 * SLOT,
        max_tokens=128,
        max_batch_tokens=256,
        api_keys=KEYS,
        checkpoint=str(models / "first"),
        model_folder=models,
    )
    for name in ("first", "second"):
        (models / name).mkdir(parents=True)
        (models / name / "config.json").touch()

    def load(path: Path) -> FakeModel:
        return FakeModel(recall=True, name=path.name, fingerprint=path.name.ljust(64, "0"))

    with serve(FakeModel(), settings, load=load) as live:
        assert_whole(run_schemathesis(live.url, tmp_path, "--max-examples", EXAMPLES), live.url)


def test_some_requests_to_the_server_as_it_is_started(tmp_path: Path) -> None:
    settings = {
        "CAUSALRN_CHECKPOINT": str(ROOT / "checkpoints" / "exact-bytes"),
        "CAUSALRN_MAX_TOKENS": "128",
        "CAUSALRN_API_KEYS": KEYS,
        "CAUSALRN_SESSION_STORE": str(tmp_path / "sessions.db"),
    }
    with served(**settings) as url:
        assert_whole(run_schemathesis(url, tmp_path, "--max-examples", "5"), url)
