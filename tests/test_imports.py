"""Which part of the project may know which other, checked from the syntax trees."""

import ast
import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "model": ROOT / "model",
    "server": ROOT / "server",
    "causalrn_client": ROOT / "clients/python/src/causalrn_client",
}
HOME_OF_NUMBA = "model.ops.jit"
# Plain Python, to be read, tested and run without tensors.
TORCH_FREE = [
    "model.config",
    "server.engine.block_allocator",
    "server.engine.prefix_cache",
    "server.engine.scheduler",
    "server.engine.warm_sessions",
    "server.engine.sequence",
]
# Needs more, which `causalrn-client[cli]` brings.
COMMAND_OF_CLIENT = ("causalrn_client.cli",)
# Released by the same people for one version of the other, which alone is declared.
COMPANIONS = {"llvmlite": "numba", "pydantic_core": "pydantic"}

Graph = Mapping[str, frozenset[str]]


def modules_under(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of a package."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def imports_of(name: str, path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere: at the top, in functions, for type checkers.

    `from a import b` gives both `a` and `a.b`, since b may be a module. Relative imports come out
    as absolute names.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - (path.name == "__init__.py")
                package = name.split(".")[: -up or None]
                base = ".".join((*package, base) if base else package)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(found)


def reach(graph: Graph, start: str) -> dict[str, str]:
    """Everything that importing `start` imports, each with the chain of imports that leads to it.

    Importing `a.b` runs `a` too. Names outside the graph are reached, not followed.
    """
    chains = {start: start}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        parents = {name.rpartition(".")[0]} - {""}
        for found in sorted(graph.get(name, frozenset()) | parents):
            if found not in chains:
                chains[found] = f"{chains[name]} -> {found}"
                queue.append(found)
    return chains


def importers(graph: Graph, *packages: str) -> list[str]:
    """Modules that import one of the packages, or anything in them, by a statement of their own."""
    return [name for name, found in graph.items() if {top(x) for x in found} & set(packages)]


def top(name: str) -> str:
    """The package that a dotted name begins with."""
    return name.partition(".")[0]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return {
        name: imports_of(name, path)
        for package, folder in PACKAGES.items()
        for name, path in modules_under(package, folder)
    }


def test_every_package_is_seen(graph: Graph) -> None:
    assert {top(name) for name in graph} == set(PACKAGES)


def test_the_model_knows_neither_server_nor_client(graph: Graph) -> None:
    users = importers(graph, "server", "clients", "causalrn_client")
    assert [name for name in users if top(name) == "model"] == []


def test_the_server_does_not_know_the_client(graph: Graph) -> None:
    users = importers(graph, "clients", "causalrn_client")
    assert [name for name in users if top(name) == "server"] == []


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch_behind_plain_python(graph: Graph, module: str) -> None:
    assert module in graph
    chains = reach(graph, module)
    assert [chains[name] for name in chains if top(name) == "torch"] == []


def test_training_and_evaluation_serve_the_command_line_alone(graph: Graph) -> None:
    inner = ("model.training", "model.evaluation")
    outside = {
        name: found
        for name, found in graph.items()
        if name != "model.cli" and not is_within(name, inner)
    }
    assert [n for n, found in outside.items() if any(is_within(x, inner) for x in found)] == []


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the packages or something inside."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_numba_has_one_door(graph: Graph) -> None:
    assert importers(graph, "numba") == [HOME_OF_NUMBA]
    assert importers(graph, "llvmlite") == ["model.ops.lanes"]


def test_triton_has_at_most_one_door(graph: Graph) -> None:
    assert len(importers(graph, "triton")) <= 1


def test_the_client_needs_httpx_and_pydantic_only(graph: Graph) -> None:
    allowed = {"causalrn_client", "httpx", "pydantic", *sys.stdlib_module_names}
    for name, found in graph.items():
        if top(name) == "causalrn_client":
            used = {COMPANIONS.get(top(x), top(x)) for x in found}
            command = {"rich", "typer"} if is_within(name, COMMAND_OF_CLIENT) else set()
            assert used - allowed - command == set(), name
    assert not any(is_within(name, COMMAND_OF_CLIENT) for name in reach(graph, "causalrn_client"))


def test_what_is_imported_is_declared(graph: Graph) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    own = [found for name, found in graph.items() if top(name) in {"model", "server"}]
    used = {COMPANIONS.get(top(x), top(x)) for found in own for x in found}
    used -= {"model", "server", *sys.stdlib_module_names}
    providers = packages_distributions()
    assert {name for name in used if not declared & set(providers.get(name, []))} == set()
    unused = declared - {provider for name in used for provider in providers.get(name, [])}
    # uvicorn is run, tbb is loaded by Numba; the rest would be declared in vain.
    assert unused <= {"tbb", "uvicorn"}


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules each of which imports, maybe by way of others, every other one.

    Statements count; that `import a.b` runs `a` as well does not.
    """
    behind = {}
    for start in graph:
        found, queue = set[str](), [start]
        while queue:
            new = (graph[queue.pop()] & graph.keys()) - found
            found |= new
            queue += new
        behind[start] = found
    groups = {
        tuple(sorted(other for other in behind[name] if name in behind[other]))
        for name in graph
        if name in behind[name]
    }
    return [list(group) for group in sorted(groups)]


def test_no_module_of_the_server_imports_itself_by_way_of_others(graph: Graph) -> None:
    assert [group for group in circles(graph) if top(group[0]) == "server"] == []


def test_circles_are_seen() -> None:
    edges = {"a": {"b"}, "b": {"c", "x"}, "c": {"a"}, "d": {"a", "e"}, "e": set[str]()}
    assert circles({name: frozenset(found) for name, found in edges.items()}) == [["a", "b", "c"]]


def test_the_engine_knows_neither_sessions_nor_what_is_above_them(graph: Graph) -> None:
    above = tuple(f"server.{room}" for room in ("sessions", "auth", "http", "api", "app"))
    engine = {name: found for name, found in graph.items() if is_within(name, ("server.engine",))}
    assert [n for n, found in engine.items() if any(is_within(x, above) for x in found)] == []


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import a")
    (package / "inner/__init__.py").write_text("import json.decoder as j")
    (package / "inner/a.py").write_text("def f():\n    from .. import b\n    from ..c import d\n")
    (package / "b.py").write_text("if False:\n    from torch.nn import Module\n")
    found = {name: imports_of(name, path) for name, path in modules_under("pkg", package)}
    assert found == {
        "pkg": {"pkg.inner", "pkg.inner.a"},
        "pkg.b": {"torch.nn", "torch.nn.Module"},
        "pkg.inner": {"json.decoder"},
        "pkg.inner.a": {"pkg", "pkg.b", "pkg.c", "pkg.c.d"},
    }
    chains = reach(found, "pkg.inner.a")
    assert chains["torch.nn"] == "pkg.inner.a -> pkg.b -> torch.nn"
    assert chains["json.decoder"] == "pkg.inner.a -> pkg.inner -> json.decoder"
