"""Checkpoints without weights, in a folder, for servers that load several."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from causalrn.model.checkpoint import CheckpointError
from causalrn.server.settings import Settings
from tests.server.admin_client import KEYS
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel


class Shelf:
    """A model folder whose checkpoints are fake models of the same names.

    It is what `create_app` and `Engines` take as `load`. It keeps no model alive.

    Args:
        folder: empty, or not there yet.
        names: of the checkpoints.

    Attributes:
        before_load: called on the loading thread with the new model; it may block, or raise.
        models: those in memory, by name.
        n_loads: models made so far.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.before_load: Callable[[FakeModel], None] = lambda _: None
        self.models: WeakValueDictionary[str, FakeModel] = WeakValueDictionary()
        self.n_loads = 0
        for name in names:
            self.add(name)

    def __call__(self, path: Path) -> FakeModel:
        if not path.is_dir():
            raise CheckpointError(f"{path}: no such folder; a checkpoint is a folder")
        self.n_loads += 1
        model = FakeModel(name=path.name, fingerprint=fingerprint(path.name))
        self.before_load(model)
        self.models[path.name] = model
        return model

    def add(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True)
        (path / "config.json").touch()
        return path

    def settings(self, *configured: str, **changes: Any) -> Settings:
        """Settings with these of the checkpoints configured."""
        paths = os.pathsep.join(str(self.folder / name) for name in configured)
        return make_settings(api_keys=KEYS, checkpoint=paths, model_folder=self.folder, **changes)


def fingerprint(name: str) -> str:
    """Of the weights that a fake checkpoint would have; those of `a` and `a-twin` are the same."""
    return hashlib.sha256(name.removesuffix("-twin").encode()).hexdigest()
