"""The same prompts get the same answers as ever: ids, text, and every bit of a log-probability."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.recorded_answers import (
    CHECKPOINTS,
    FOLDER,
    answers,
    requests,
    served_checkpoint,
)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_answers_are_those_that_were_recorded(checkpoint: str, tmp_path: Path) -> None:
    recorded = json.loads((FOLDER / f"{checkpoint}.json").read_text(encoding="utf-8"))
    bodies = requests(checkpoint)
    with served_checkpoint(checkpoint, tmp_path) as url:
        found = list(answers(url, bodies))
    for body, one, other in zip(bodies, found, recorded, strict=True):
        assert one == other, body
