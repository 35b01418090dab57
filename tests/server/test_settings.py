import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from causalrn.server.settings import Settings
from tests.server.conftest import make_settings


def test_the_default_checkpoint_does_not_depend_on_where_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).resolve().parents[2]
    assert Settings().checkpoint == (root / "checkpoints" / "exact-bytes",)
    assert Settings().model_folder == root / "checkpoints"


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSALRN_POOL_BYTES", "12345")
    monkeypatch.setenv("CAUSALRN_CHECKPOINT", "elsewhere")
    assert Settings().pool_bytes == 12345
    assert Settings().checkpoint == (Path("elsewhere"),)


def test_several_checkpoints_are_written_like_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSALRN_CHECKPOINT", os.pathsep.join(["one", "/of/two", ""]))
    assert Settings().checkpoint == (Path("one"), Path("/of/two"))
    assert make_settings(checkpoint=Path("one")).checkpoint == (Path("one"),)


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_bytes": 0},
        {"page_size": 24},
        {"max_running": 0},
        {"max_waiting": -1},
        {"max_body_bytes": "many"},
        {"stall_seconds": 0},
        {"drain_seconds": float("inf")},
        {"max_running": 33},
        {"unknown": 1},
        {"checkpoint": ""},
        {"checkpoint": os.pathsep},
        {"checkpoint": 1},
    ],
)
def test_values_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(**changes)
    assert next(iter(changes)) in str(refused.value)


@pytest.mark.parametrize(
    ("written", "bytes_"), [("12345", 12345), ("1GiB", 2**30), ("1.5 MB", 1_500_000), (2048, 2048)]
)
def test_sizes_may_have_units(written: object, bytes_: int) -> None:
    settings = make_settings(pool_bytes=written, max_body_bytes=written)
    assert settings.pool_bytes == settings.max_body_bytes == bytes_


def test_a_checkpoint_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    assert make_settings(checkpoint="copy-az").checkpoint == (root / "checkpoints" / "copy-az",)
    own = tmp_path / "models" / "mine"
    own.mkdir(parents=True)
    named = make_settings(checkpoint="mine:copy-az", model_folder=tmp_path / "models")
    assert named.checkpoint == (own, Path("copy-az"))  # which is not in that model folder
    monkeypatch.chdir(own.parent)
    assert make_settings(checkpoint="mine").checkpoint == (Path("mine"),)  # a folder that is there


def test_two_checkpoints_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two checkpoints are called 'one'"):
        make_settings(checkpoint=f"a/one{os.pathsep}b/two{os.pathsep}c/one")


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_defaults_fit_what_was_set() -> None:
    settings = Settings(max_running=1000)
    assert settings.max_batch_tokens >= 1000
    assert settings.max_waiting == 4000
