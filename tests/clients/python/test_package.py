"""The package as a whole: what it imports, exports and ships."""

import ast
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import causalrn_client
from causalrn_client import errors

PROJECT = Path(__file__).parents[3] / "clients" / "python"
SOURCE = PROJECT / "src" / "causalrn_client"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]
# httpx brings anyio, and pydantic pydantic_core.
THIRD_PARTY = {"anyio", "httpx", "pydantic", "pydantic_core"}
TERMINAL = {"rich", "typer"}


def imported(tree: ast.AST) -> set[str]:
    """Modules that a module names in any import, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would hide what is imported"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_is_imported_but_httpx_pydantic_and_theirs(path: Path) -> None:
    names = imported(ast.parse(path.read_text("utf-8")))
    in_terminal = SOURCE / "cli" in path.parents
    allowed = sys.stdlib_module_names | THIRD_PARTY | {"causalrn_client"}
    assert {name.partition(".")[0] for name in names} <= allowed | (
        TERMINAL if in_terminal else set()
    )
    assert in_terminal or "cli" not in {name.split(".")[1] for name in names if "." in name}


def test_the_dependencies_are_httpx_pydantic_and_theirs() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    dependencies = [name.partition(">")[0] for name in project["dependencies"]]
    assert dependencies == ["anyio", "httpx", "pydantic"]
    extra = project["optional-dependencies"]["cli"]
    assert {name.partition(">")[0] for name in extra} == TERMINAL


def test_the_command_line_waits_for_neither() -> None:
    program = "import sys, causalrn_client.cli; print(*(m in sys.modules for m in sys.argv[1:]))"
    command = [sys.executable, "-c", program, *sorted(THIRD_PARTY)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    assert set(ran.stdout.split()) == {"False"}


def test_type_checkers_see_what_is_there() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in causalrn_client.__all__:
        assert getattr(importlib.import_module(seen[name] or ""), name) is getattr(
            causalrn_client, name
        )
    assert set(causalrn_client.__all__) <= set(dir(causalrn_client))
    with pytest.raises(AttributeError, match="no attribute 'Cliemt'"):
        getattr(causalrn_client, "Cliemt")  # noqa: B009 — mypy knows that it is not there


def test_everything_public_is_exported_and_documented() -> None:
    for name in causalrn_client.__all__:
        value = getattr(causalrn_client, name)
        assert name == "__version__" or value.__doc__
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, causalrn_client.CausalRNError)
    }
    assert kinds <= set(causalrn_client.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("causalrn-client") == causalrn_client.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()
