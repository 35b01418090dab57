"""A step of decoding beside its limit."""

import json
from pathlib import Path

import pytest

from benchmarks import engine_tables, figures
from benchmarks.step import Copies, matrices, measure_streams, writing
from causalrn.model.checkpoint import load_checkpoint

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def test_a_limit_is_the_sum_of_its_parts() -> None:
    checkpoint = load_checkpoint(CHECKPOINTS / "exact-bytes-small")
    found = measure_streams(Copies(checkpoint, 3, 64), checkpoint.decoder, rounds=1)
    parts = sum(found[name] for name in ("products", "reading", "pairs"))
    assert min(found[name] for name in ("products", "reading", "pairs", "share_of_rate")) > 0.0
    assert found["ratio"] == pytest.approx(found["step"] / parts)
    assert found["ratios"] == [found["ratio"]]
    dense = parts - found["products"] + found["dense"]
    assert found["dense_ratio"] == pytest.approx(found["step"] / dense)


def test_only_blocks_that_write_have_readers() -> None:
    decoder = load_checkpoint(CHECKPOINTS / "exact-bytes-small").decoder
    assert [writes for _, writes in writing(decoder)] == [False, True]
    memories = [(128, 296), (40, 296)]
    shapes = [one.shape for one in matrices(decoder)]
    assert shapes == [(259, 296), *memories, *memories, (128, 296), (296, 40)]


def test_other_kinds_of_models_are_refused() -> None:
    decoder = load_checkpoint(CHECKPOINTS / "copy-bytes").decoder
    with pytest.raises(SystemExit, match="need blocks of keyed relations"):
        list(writing(decoder))


def test_limits_become_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"step": 6e-5, "products": 3e-5, "reading": 8e-6, "pairs": 2e-6}
    found = {"threads": 1, "ratio": 1.5, "dense_ratio": 1.2, "share_of_rate": 0.25, **times}
    streams = {"1": found, "8": found | {"threads": 2}}
    results = {"model": "mine", "prompt": 1000, "aims": {"1": 2.0}, "streams": streams}
    (tmp_path / "step.json").write_text(json.dumps(results))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    lines = engine_tables.limits().splitlines()
    assert lines[0] == "`mine`, streams that copy prompts of 1,000 tokens:"
    assert lines[4:6] == [
        "| 1 | 1 | 60 µs | 30 µs | 8 µs | 2 µs | 1.50 | 1.20 | at most 2.0 |",
        "| 8 | 2 | 60 µs | 30 µs | 8 µs | 2 µs | 1.50 | 1.20 |  |",
    ]
    assert lines[-1].startswith("The products reach 25% and 25% of the rate")
