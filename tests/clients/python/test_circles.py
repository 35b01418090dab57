"""No module of the Python client imports itself, however long the way round."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "clients/python/src/causalrn_client"

Graph = Mapping[str, frozenset[str]]


def imports_under(folder: Path) -> Graph:
    """The modules of a package, each with those of them that it names in an import.

    Imports in functions and those for type checkers alone count. That importing `a.b` runs `a` too
    does not: a package may gather what its modules hold.
    """
    trees = {name_of(path, folder): ast.parse(path.read_bytes()) for path in folder.rglob("*.py")}
    return {name: named_by(tree) & trees.keys() for name, tree in trees.items()}


def name_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def named_by(tree: ast.AST) -> frozenset[str]:
    """Everything that absolute imports name; `from a import b` gives `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, "relative imports would go unseen"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components that are more than one module alone (Tarjan, 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], order[other])
        if lowest[name] == order[name]:
            at = stack.index(name)
            component = sorted(stack[at:])
            del stack[at:]
            if len(component) > 1 or name in graph[name]:
                found.append(component)

    for name in graph:
        if name not in order:
            visit(name)
    return found


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = imports_under(SOURCE)
    assert graph["causalrn_client"], "no import was seen"
    assert circles(graph) == []


@pytest.mark.parametrize(
    "hidden",
    [
        "import pkg.a",
        "def f():\n    from pkg import a",
        "if TYPE_CHECKING:\n    from pkg.a import X",
    ],
    ids=["plain", "in a function", "for type checkers"],
)
def test_a_circle_is_found(tmp_path: Path, hidden: str) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("import pkg.b\nimport json")
    (package / "b.py").write_text("from pkg.c import Y")
    (package / "c.py").write_text(hidden)
    (package / "d.py").write_text("import pkg.a")
    assert circles(imports_under(package)) == [["pkg.a", "pkg.b", "pkg.c"]]
