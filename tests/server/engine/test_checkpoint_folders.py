"""Which folders may be loaded as checkpoints."""

from pathlib import Path

import pytest

from causalrn.server.engine.checkpoint_folders import CheckpointFolders
from tests.server.shelf import Shelf


@pytest.fixture
def elsewhere(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "elsewhere", "b", "configured")


def test_checkpoints_are_those_of_the_settings_and_those_in_the_folder(
    shelf: Shelf, elsewhere: Shelf
) -> None:
    folders = CheckpointFolders([elsewhere.folder / "configured"], shelf.folder)
    assert list(folders.configured) == ["configured"]
    assert folders.find() == {
        "a": shelf.folder / "a",
        "b": shelf.folder / "b",
        "c": shelf.folder / "c",
        "configured": elsewhere.folder / "configured",
    }


def test_a_configured_checkpoint_goes_before_one_of_its_name_in_the_folder(
    shelf: Shelf, elsewhere: Shelf
) -> None:
    folders = CheckpointFolders([elsewhere.folder / "b"], shelf.folder)
    assert folders.find()["b"] == elsewhere.folder / "b"


def test_a_checkpoint_that_is_added_later_is_found(shelf: Shelf) -> None:
    folders = CheckpointFolders([], shelf.folder)
    assert "d" not in folders.find()
    shelf.add("d")
    assert "d" in folders.find()


def test_links_are_followed_inside_the_folder_only(shelf: Shelf, elsewhere: Shelf) -> None:
    (shelf.folder / "inside").symlink_to("a")
    (shelf.folder / "outside").symlink_to(elsewhere.folder / "b")
    (shelf.folder / "loop").symlink_to("loop")
    found = CheckpointFolders([], shelf.folder).find()
    assert sorted(found) == ["a", "b", "c", "inside"]


@pytest.mark.parametrize("name", [".hidden", "a b", "-a", "x" * 129, "ä"])
def test_a_folder_with_an_odd_name_is_no_checkpoint(shelf: Shelf, name: str) -> None:
    shelf.add(name)
    assert sorted(CheckpointFolders([], shelf.folder).find()) == ["a", "b", "c"]


def test_without_the_folder_what_is_configured_is_left(
    elsewhere: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = CheckpointFolders([elsewhere.folder / "b"], tmp_path / "nowhere")
    assert list(folders.find()) == ["b"]
    assert "the model folder cannot be read" in caplog.text
