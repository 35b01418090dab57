"""No measured number is typed into a document: it stands in a block that a command writes.

`tests/benchmarks/test_report.py` compares these blocks with the files of results. Here, what is
left of the documents for users is searched for numbers that look measured. The few that there are
stand for something else, and are compared with it where it has a name.
"""

import re
from pathlib import Path

import pytest

from causalrn.model.ops.cpu import compiling
from causalrn.model.training.preset import load_preset
from causalrn.server import start
from causalrn.server.engine import readers
from causalrn.server.sessions import upkeep
from causalrn_client import http_options

ROOT = Path(__file__).parents[2]
FILES = sorted(file.relative_to(ROOT) for file in [*ROOT.glob("docs/*.md"), ROOT / "README.md"])
_WRITTEN = re.compile(r"<!-- begin ([^>]+) -->\n.*?<!-- end \1 -->|```.*?```|`[^`\n]*`", re.DOTALL)
_UNIT = "%|per cent|times|ms|µs|us|seconds?|minutes?|hours?|[MG]i?B|tokens/s|tokens a second"
_MEASURED = re.compile(rf"(?<![\w.,-])\d[\d.,]*\s+(?:{_UNIT})(?!\w)|(?<![\w.,-])\d[\d.,]*%")


def _mib(n_bytes: int) -> str:
    return f"{n_bytes // 2**20} MiB"


def _construction_decay() -> float:
    construction = load_preset("exact-bytes").construction
    assert construction is not None
    return construction.decay


LEASE = f"{upkeep.LEASE_SECONDS:.0f} seconds"
ALLOWED: dict[str, set[str]] = {
    "docs/engine.md": {
        _mib(start._SERVING_BYTES),
        _mib(start._COMPILING_BYTES),
        _mib(compiling._CHILD_BYTES),
        f"{1e6 * readers._READER_SECONDS:.0f} µs",
        "0.3 ms",  # for which threads look out: so many looks, whatever a look takes
        "400 µs",  # that were tried for it
    },
    "docs/gpu.md": {"100 %"},  # what a share would be at its best
    "docs/models.md": {f"{_construction_decay():g} times"},
    "docs/monitoring.md": {"0.9 ms"},  # in a line of a log
    "docs/peers.md": {"15 seconds"},  # given to GuideLLM, as the command shows
    "docs/python-client.md": {f"{http_options.KEPT.keepalive_expiry:.0f} seconds"},
    "docs/security.md": {"60 seconds", "60 times"},  # a minute of a rate; how much longer
    "docs/sessions.md": {LEASE},
}


def _typed(text: str) -> set[str]:
    """Numbers with a unit, outside of what a command writes or a person types."""
    return {found[0] for found in _MEASURED.finditer(_WRITTEN.sub("", text))}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_measured_number_is_typed(file: Path) -> None:
    found = _typed((ROOT / file).read_text(encoding="utf-8"))
    assert found - ALLOWED.get(str(file), set()) == set()


@pytest.mark.parametrize("file", ALLOWED)
def test_what_is_allowed_is_there(file: str) -> None:
    assert ALLOWED[file] - _typed((ROOT / file).read_text(encoding="utf-8")) == set()


def test_numbers_are_seen() -> None:
    text = (
        "It takes 3.1 ms, 40 % more, or 1,200 tokens/s. In 5 tokens and `9 seconds` is none.\n"
        "<!-- begin x -->\n7 MB\n<!-- end x -->\n```text\n8 hours\n```\n"
    )
    assert _typed(text) == {"3.1 ms", "40 %", "1,200 tokens/s"}
