"""Runs the code of a notebook, cell by cell, and says what each of them prints and shows.

    python -m tests.documents.notebook docs/tour.ipynb     # writes the outputs into the notebook

Cells are plain Python, as in a program; the value of a last expression is shown as its `repr`.
"""

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def read(file: Path) -> dict[str, Any]:
    """The notebook, as its JSON says."""
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def outputs_of(cell: dict[str, Any], names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell of code; gives its outputs as notebooks keep them.

    Args:
        cell: of the notebook.
        names: what earlier cells defined, and then this one.
    """
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    found: list[dict[str, Any]] = []
    if text := printed.getvalue():
        stream = {"name": "stdout", "output_type": "stream"}
        found.append(stream | {"text": text.splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        number = cell["execution_count"]
        result = {"data": data, "execution_count": number, "metadata": {}}
        found.append(result | {"output_type": "execute_result"})
    return found


def main() -> None:
    """Write the outputs of all cells into a notebook."""
    file = Path(sys.argv[1])
    notebook, names, number = read(file), dict[str, Any](), 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = outputs_of(cell, names)
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
