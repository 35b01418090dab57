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
# `causalrn` holds `model` and `server`; here they go by these names alone.
WHOLE = "causalrn"
INNER = ("model", "server")
PACKAGES = {
    "causalrn": ROOT / "causalrn",
    "model": ROOT / "model",
    "server": ROOT / "server",
    "causalrn_client": ROOT / "clients/python/src/causalrn_client",
}
HOME_OF_NUMBA = "model.ops.cpu.jit"
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
COMPANIONS = {"cycler": "matplotlib", "llvmlite": "numba", "pydantic_core": "pydantic"}

# What any file of the server may know.
COMMON = (
    "model.device",
    "model.machine",
    "model.pool_dtype",
    "model.shipped",
    "server.errors",
    "server.printable",
    "server.settings",
)
# Which rooms a room may know besides itself. The other files beside them put the rooms together.
DOORS = {
    "server.api": {"server.sessions", "server.engine", "server.auth", "server.http", "model"},
    "server.sessions": {"server.engine", "model"},
    "server.engine": {"model"},
    "server.auth": set(),
    "server.http": set(),
}
WEB_FRAMEWORK = ("fastapi", "starlette", "uvicorn")
Graph = Mapping[str, frozenset[str]]


def modules_under(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of a package."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def imports_of(name: str, path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere: at the top, in functions, for type checkers.

    `from a import b` gives both `a` and `a.b`, since b may be a module. Relative imports come out
    as absolute names, and those of packages within `causalrn` without that in front.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            found |= {short(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if not node.level:
                base = short(base)
            else:
                up = node.level - (path.name == "__init__.py")
                package = name.split(".")[: -up or None]
                base = ".".join((*package, base) if base else package)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(found)


def short(name: str) -> str:
    """The name that something goes by in this file."""
    inner = name.removeprefix(f"{WHOLE}.")
    if name == inner:
        assert top(name) not in INNER, f"{name} would be somebody else's: it is {WHOLE}.{name}"
    return inner if top(inner) in INNER else name


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


def modules_of(graph: Graph, name: str) -> set[str]:
    """The modules of the graph that a module imports by statements of its own.

    Who imports one module of a package has not thereby imported the package: that counts only if
    something of its own `__init__` is taken.
    """
    found = graph[name]
    inside = {parent: {x for x in found if x.rpartition(".")[0] == parent} for parent in found}
    return {x for x in found & graph.keys() if not inside[x] or inside[x] - graph.keys()}


def circles(graph: Graph) -> set[frozenset[str]]:
    """Sets of modules that import each other, directly or by way of others."""
    reached = {}
    for start in graph:
        reached[start] = set[str]()
        queue = [start]
        while queue:
            new = modules_of(graph, queue.pop()) - reached[start]
            reached[start] |= new
            queue += new
    found = {
        frozenset(one for one in there if name in reached[one]) for name, there in reached.items()
    }
    return found - {frozenset()}


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


def room_of(name: str) -> str | None:
    """The room that a module of the server is in; None for those beside the rooms."""
    return next((room for room in DOORS if is_within(name, (room,))), None)


def test_every_room_opens_its_doors_only(graph: Graph) -> None:
    assert {room_of(name) for name in graph} == {None, *DOORS}
    opened = set()
    for name in graph:
        if (room := room_of(name)) is None:
            continue
        allowed = (*COMMON, *DOORS[room], room)
        for one in modules_of(graph, name):
            if top(one) in PACKAGES and one != "server" and not is_within(one, allowed):
                opened.add((name, one))
    assert opened == set()


def test_what_everybody_may_know_knows_no_room(graph: Graph) -> None:
    for name in COMMON:
        assert {one for one in modules_of(graph, name) if top(one) in PACKAGES} <= {*COMMON}


def test_no_web_framework_below_api_and_http(graph: Graph) -> None:
    above = ("server.api", "server.http")
    for name in graph:
        if name in COMMON or not (top(name) == "server" and room_of(name) in (None, *above)):
            chains = reach(graph, name)
            assert [chains[one] for one in chains if top(one) in WEB_FRAMEWORK] == []


def test_no_imports_go_in_a_circle(graph: Graph) -> None:
    assert circles(graph) == set()


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch_behind_plain_python(graph: Graph, module: str) -> None:
    assert module in graph
    chains = reach(graph, module)
    assert [chains[name] for name in chains if top(name) == "torch"] == []


def test_training_and_evaluation_serve_the_command_line_alone(graph: Graph) -> None:
    inner = ("model.training", "model.evaluation", "model.reproduction")
    outside = {
        name: found
        for name, found in graph.items()
        if name not in ("model.cli", "causalrn.training") and not is_within(name, inner)
    }
    assert [n for n, found in outside.items() if any(is_within(x, inner) for x in found)] == []


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the packages or something inside."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_numba_has_one_door(graph: Graph) -> None:
    assert importers(graph, "numba") == [HOME_OF_NUMBA]
    assert importers(graph, "llvmlite") == [
        "model.ops.cpu.bfloat16",
        "model.ops.cpu.dealing",
        "model.ops.cpu.exponentials",
        "model.ops.cpu.lanes",
        "model.ops.cpu.records",
        "model.ops.relation.cpu_gradient_lanes",
        "model.ops.relation.cpu_keyed_blunt_lanes",
        "model.ops.relation.cpu_lanes",
    ]


def test_kernels_of_the_cpu_are_for_operations_and_the_backend_of_the_cpu(graph: Graph) -> None:
    kernels = re.compile(r"model\.ops\.(cpu\.\w+|\w+\.cpu(_\w+)?)")
    users = {name for name in graph if any(map(kernels.fullmatch, modules_of(graph, name)))}
    # Training, too, takes the positions of whole sequences from the CPU.
    assert {name for name in users if not is_within(name, ("model.ops",))} == {
        "model.backends.cpu", "model.backends.cpu_program", "model.backends.cpu_scratch",
        "model.backends.cpu_team", "model.backends.gpu_scratch", "model.embedding",
    }  # fmt: skip


def test_programs_of_users_alone_use_the_api_in_process(graph: Graph) -> None:
    users = {n for n, found in graph.items() if any(top(x) == "causalrn" for x in found)}
    assert {top(name) for name in users} == {"causalrn"}
    rooms = {"causalrn", "model", "server.engine", "server.sessions"}
    for name in (n for n in graph if top(n) == "causalrn"):
        own = {x for x in modules_of(graph, name) if top(x) in PACKAGES}
        assert all(any(is_within(x, (room,)) for room in rooms) for x in own), name


def test_nothing_but_registries_names_a_mixer(graph: Graph) -> None:
    mixers = {"model.mixers.normalized", "model.mixers.separable"}
    # Formulas for the weights of one mixer belong to it, and to no other.
    own = {"model.construction"}
    assert {name for name in graph if modules_of(graph, name) & mixers} == own


def test_the_server_names_no_task(graph: Graph) -> None:
    tasks = {"model.tasks.copying"}
    assert {n for n in graph if top(n) == "server" and modules_of(graph, n) & tasks} == set()


def test_triton_is_for_kernels_of_devices_and_their_backend(graph: Graph) -> None:
    kernels = re.compile(r"model\.ops\.(gpu\.\w+|\w+\.gpu(_\w+)?)")
    others = {name for name in importers(graph, "triton") if not kernels.fullmatch(name)}
    assert others == {"model.backends.gpu"}
    users = {name for name in graph if any(map(kernels.fullmatch, modules_of(graph, name)))}
    outside = {name for name in users if not is_within(name, ("model.ops",))}
    assert outside
    assert all(re.fullmatch(r"model\.backends\.gpu(_\w+)?", name) for name in outside)


def test_the_client_needs_httpx_pydantic_and_theirs_only(graph: Graph) -> None:
    allowed = {"causalrn_client", "anyio", "httpx", "pydantic", *sys.stdlib_module_names}
    for name, found in graph.items():
        if top(name) == "causalrn_client":
            used = {COMPANIONS.get(top(x), top(x)) for x in found}
            command = {"rich", "typer"} if is_within(name, COMMAND_OF_CLIENT) else set()
            assert used - allowed - command == set(), name
    assert not any(is_within(name, COMMAND_OF_CLIENT) for name in reach(graph, "causalrn_client"))


def test_what_is_imported_is_declared(graph: Graph) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = ("figures", "gpu", "huggingface", "tokenizers")
    lines = [*project["dependencies"], *(line for name in optional for line in extras[name])]
    declared = {re.split(r"[^\w-]", line)[0] for line in lines}
    own = [found for name, found in graph.items() if top(name) in {WHOLE, *INNER}]
    used = {COMPANIONS.get(top(x), top(x)) for found in own for x in found}
    used -= {WHOLE, *INNER, *sys.stdlib_module_names}
    providers = packages_distributions()
    assert {name for name in used if not declared & set(providers.get(name, []))} == set()
    unused = declared - {provider for name in used for provider in providers.get(name, [])}
    # uvicorn is run, tbb is loaded by Numba; the rest would be declared in vain.
    assert unused <= {"tbb", "uvicorn"}


def test_circles_are_seen() -> None:
    edges = {"a": {"b"}, "b": {"c", "x"}, "c": {"a"}, "d": {"a", "e"}, "e": set[str]()}
    graph = {name: frozenset(found) for name, found in edges.items()}
    assert circles(graph) == {frozenset("abc")}


def test_packages_are_imported_by_their_whole_names() -> None:
    assert [short(n) for n in ("causalrn.model.a", "causalrn.turn", "json")] == [
        "model.a", "causalrn.turn", "json",
    ]  # fmt: skip
    with pytest.raises(AssertionError, match=r"somebody else's: it is causalrn\.server\.a"):
        short("server.a")


def test_tests_and_benchmarks_use_the_whole_names_too() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert all(imports_of("", path) is not None for path in files)


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
    assert modules_of(found, "pkg") == {"pkg.inner.a"}
    chains = reach(found, "pkg.inner.a")
    assert chains["torch.nn"] == "pkg.inner.a -> pkg.b -> torch.nn"
    assert chains["json.decoder"] == "pkg.inner.a -> pkg.inner -> json.decoder"


def test_circles_are_found_however_long_they_are() -> None:
    graph = {
        "p": frozenset({"p.a", "p.a.f"}),
        "p.a": frozenset({"p", "p.b"}),
        "p.b": frozenset({"p.c"}),
        "p.c": frozenset({"p.a", "json"}),
        "p.d": frozenset({"p", "p.name", "p.d2"}),
        "p.d2": frozenset({"p.d"}),
    }
    assert circles(graph) == {frozenset({"p.a", "p.b", "p.c"}), frozenset({"p.d", "p.d2"})}
