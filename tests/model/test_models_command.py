"""`causalrn models`."""

import json

from causalrn.model.shipped import CHECKPOINTS, shipped_names
from tests.model.command import run


def test_shipped_checkpoints_are_listed() -> None:
    result = run("models")
    assert result.exit_code == 0
    head, rule, *rows = result.stdout.splitlines()
    assert head.split(" | ")[0] == "| name"
    assert set(rule) <= set("| -:")
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        "exact-bytes (default)" if name == "exact-bytes" else name for name in shipped_names()
    ]
    for name, row in zip(shipped_names(), rows, strict=True):
        config = json.loads((CHECKPOINTS / name / "config.json").read_text())
        assert f"| {config['task']['name']} | {config['tokenizer']} |" in row
        assert f"{config['model']['max_seq_len']:,} tokens" in row
    assert str(CHECKPOINTS) in result.stderr
