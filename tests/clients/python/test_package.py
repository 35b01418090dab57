"""The package as a whole: what it imports, exports and ships."""

import ast
import importlib.metadata
import inspect
import sys
import tomllib
from pathlib import Path

import pytest

import causalrn_client

PROJECT = Path(__file__).parents[3] / "clients" / "python"
SOURCE = PROJECT / "src" / "causalrn_client"
FILES = sorted(SOURCE.rglob("*.py"))
THIRD_PARTY = {"httpx", "pydantic", "pydantic_core"}  # pydantic_core comes with pydantic


def imported(tree: ast.AST) -> set[str]:
    """Top-level packages that a module names in any import, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would hide what is imported"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_imported_but_httpx_and_pydantic(path: Path) -> None:
    names = imported(ast.parse(path.read_text("utf-8")))
    assert names <= sys.stdlib_module_names | THIRD_PARTY | {"causalrn_client"}


def test_the_dependencies_are_httpx_and_pydantic() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert [name.partition(">")[0] for name in project["dependencies"]] == ["httpx", "pydantic"]


def test_everything_public_is_exported_and_documented() -> None:
    for name in causalrn_client.__all__:
        value = getattr(causalrn_client, name)
        assert name == "__version__" or value.__doc__
    errors = {
        name
        for name, value in vars(causalrn_client.errors).items()
        if isinstance(value, type) and issubclass(value, causalrn_client.CausalRNError)
    }
    assert errors <= set(causalrn_client.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("causalrn-client") == causalrn_client.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


def test_sync_and_async_have_the_same_signatures() -> None:
    for name in ("generate", "stream", "info", "ready", "close"):
        sync, twin = (
            inspect.signature(getattr(kind, name)).parameters
            for kind in (causalrn_client.Client, causalrn_client.AsyncClient)
        )
        assert sync == twin
