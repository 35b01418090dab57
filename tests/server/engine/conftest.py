"""Fixtures: a core that a test steps by hand, and a shelf of three checkpoints."""

from pathlib import Path

import pytest

from causalrn.server.settings import Settings
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel
from tests.server.shelf import Shelf


@pytest.fixture
def driver(model: FakeModel, settings: Settings) -> Driver[FakeModel]:
    return Driver(model, settings)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models", "a", "b", "c")
