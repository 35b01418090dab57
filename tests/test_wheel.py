"""The wheel, without a clone around it: it has all that a user needs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from causalrn.model.shipped import CHECKPOINTS

ROOT = Path(__file__).parents[1]
SHIPPED = ["exact-bytes", "exact-bytes-small"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel was unpacked into, as an installation does."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder))
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def python(site: Path, *args: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-P", *args], cwd=site.parent, env=environment, check=True,
        capture_output=True, text=True, timeout=240,
    ).stdout  # fmt: skip


def test_it_brings_the_package_and_the_default_checkpoints(site: Path) -> None:
    found = {path.name for path in site.iterdir()}
    assert {name for name in found if not name.endswith(".dist-info")} == {"causalrn"}
    for package, inside in (("causalrn", ""), ("model", "causalrn"), ("server", "causalrn")):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert (site / inside / file.relative_to(ROOT)).is_file(), file
    for name in SHIPPED:
        for part in ("README.md", "config.json", "model.safetensors"):
            shipped = site / "causalrn" / "checkpoints" / name / part
            assert shipped.read_bytes() == (CHECKPOINTS / name / part).read_bytes()


def test_it_can_be_linked_before_its_packages_are_there(tmp_path: Path) -> None:
    """As in the Dockerfile, whose layer of installed packages outlasts changes of the sources."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (wheel,) = WheelBuilder(str(tmp_path)).build(
        directory=str(tmp_path / "out"), versions=["editable"]
    )
    with zipfile.ZipFile(wheel) as file:
        (link,) = (name for name in file.namelist() if ".dist-info/" not in name)
        assert file.read(link).decode().strip() == str(tmp_path)


def test_its_checkpoints_load(site: Path) -> None:
    program = (
        "import causalrn.model; print(causalrn.model.__file__, *causalrn.names());"
        "print(*[causalrn.load(name) for name in causalrn.names()])"
    )
    first, second = python(site, "-c", program).splitlines()
    assert first == " ".join([str(site / "causalrn" / "model" / "__init__.py"), *SHIPPED])
    assert second == " ".join(f"<causalrn.Model {name}: copy, recall, raw>" for name in SHIPPED)


def test_its_command_knows_them(site: Path) -> None:
    listed = python(site, "-c", "from causalrn.model.cli import app; app()", "models")
    assert "| exact-bytes (default) | copying | bytes |" in listed
