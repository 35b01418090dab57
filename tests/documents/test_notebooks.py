"""The notebooks run from top to bottom, and show what is written in them."""

from pathlib import Path
from typing import Any

import pytest

from tests.documents.notebook import outputs_of, read

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("docs/*.ipynb"))


def test_there_are_some() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_cells_show_what_is_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, cell in enumerate(read(file)["cells"], 1):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == outputs_of(cell, names), f"cell {number} of {file.name}"
