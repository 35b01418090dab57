"""Presets: what is read from their files, and what is refused."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from model.tokenizer import TOKENIZERS
from model.training import preset as module
from model.training.preset import PresetError, load_preset, preset_names
from tests.model.tiny import TINY


def changed(tmp_path: Path, old: str, new: str) -> str:
    text = TINY.read_text()
    assert text.count(old) == 1, old
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(old, new))
    return str(file)


def test_a_file_of_ones_own() -> None:
    preset = load_preset(str(TINY))
    assert (preset.name, preset.tokenizer, preset.strings) == ("tiny", "letters", "letters")
    assert (preset.model.d_model, preset.model.vocab_size, preset.model.eos_id) == (24, 29, 2)
    assert preset.model.mixers == ("separable", "normalized")
    values = tomllib.loads(TINY.read_text())
    assert vars(preset.schedule) == values["schedule"]


@pytest.mark.parametrize("name", preset_names())
def test_presets_of_the_project(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.summary
    assert preset.model.vocab_size == TOKENIZERS[preset.tokenizer].vocab_size
    assert preset == load_preset(str(Path(module.__file__).parent / "presets" / f"{name}.toml"))


def test_the_project_has_these_presets() -> None:
    assert preset_names() == [
        "copy-az",
        "copy-bytes",
        "copy-bytes-1",
        "copy-bytes-2",
        "copy-bytes-3",
        "copy-letters-quick",
        "recall-bytes",
        "recall-bytes-1",
        "recall-bytes-2",
        "recall-bytes-3",
        "recall-bytes-4",
        "recall-bytes-5",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("copy-byte", "no preset 'copy-byte'; there are copy-az, copy-bytes"),
        ("", "no preset ''"),
        ("../presets/copy-az", "no preset"),
        ("absent.toml", "absent.toml: No such file or directory"),
    ],
)
def test_no_such_preset(name: str, message: str) -> None:
    with pytest.raises(PresetError, match=message):
        load_preset(name)


def test_a_folder_is_no_preset(tmp_path: Path) -> None:
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(PresetError, match=r"x\.toml: Is a directory"):
        load_preset(str(tmp_path / "x.toml"))


@pytest.mark.parametrize("data", [b"x = ", b"\xff\xfe", b"x = 1\nx = 2"])
def test_a_file_that_is_not_toml(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(PresetError, match=r"x\.toml: "):
        load_preset(str(tmp_path / "x.toml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nstrings =", "\nstring =", "unknown key string"),
        ('strings = "letters"\n', "", "missing key strings"),
        ("\nsteps =", "\nstepps =", "unknown key schedule.stepps"),
        ("seed = 3\n", "", "missing key schedule.seed"),
        ("d_model = 24\n", "", "model: missing key 'd_model'"),
        ("d_model = 24", "d_model = 24\nn_layer = 2", "model: unknown key 'n_layer'"),
        ("d_model = 24", "d_model = 24\nvocab_size = 30", "model.vocab_size is for the tokenizer"),
        ("d_model = 24", "d_model = 24.5", "model: d_model must be an integer, got 24.5"),
        ("n_head = 2", "n_head = 3", "model: d_relation .* must be a multiple"),
        ("[schedule]", "[schedules]", "unknown key schedules"),
        ('summary = "a few', 'model = 1\nsummary = "a few', "at line"),
        ('tokenizer = "letters"', 'tokenizer = "words"', "tokenizer must be one of .*'words'"),
        ('tokenizer = "letters"', "tokenizer = []", r"tokenizer must be a string, got \[\]"),
        (
            'tokenizer = "letters"',
            'tokenizer = "bytes"',
            "strings must be .* for the 'bytes'",
        ),
        ('strings = "letters"', 'strings = "bytes"', "strings must be one of .* got 'bytes'"),
        ("seed = 3", "seed = -1", "schedule.seed must be at least 0, got -1"),
        ("seed = 3", "seed = 3.0", "schedule.seed must be a whole number, got 3.0"),
        ("seed = 3", "seed = true", "schedule.seed must be a whole number"),
        ("steps = 45", "steps = 0", "schedule.steps must be at least 1, got 0"),
        ("stop = 0", "stop = 46", "need stop <= steps"),
        ("batch_tokens = 128", "batch_tokens = 0", "schedule.batch_tokens must be at least 1"),
        ("max_strings = 8", "max_strings = 0", "schedule.max_strings must be at least 1"),
        ("max_turns = 3", "max_turns = 0", "schedule.max_turns must be at least 1"),
        ("max_context = 18", "max_context = 0", "schedule.max_context must be at least 1"),
        ("max_context = 18", "max_context = 257", "model.max_seq_len must be at least 257"),
        ("max_offset = 100", "max_offset = 0", "schedule.max_offset must be at least 1"),
        ("min_length = 1", "min_length = 0", "schedule.min_length must be at least 1"),
        ("min_length = 1", "min_length = 3", "need min_length <= first_length <= max_length"),
        ("first_length = 2", "first_length = 9", "need min_length <= first_length <= max_length"),
        ("growth = 0.5", "growth = 0.95", "schedule.growth must be at most 0.9, got 0.95"),
        ("corruption = 0.0", "corruption = 1.5", "schedule.corruption must be at most 1"),
        ("full = 0.0", "full = 1.1", "schedule.full must be at most 1.0, got 1.1"),
        ("recall = 0.0\n", "", "missing key schedule.recall"),
        ("recall = 0.0", "recall = 1.5", "schedule.recall must be at most 1.0, got 1.5"),
        ("recall = 0.0", "recall = false", "schedule.recall must be a number, got False"),
        ("recall = 0.0", "recall = 0.5", "schedule.recall needs model.recall = true"),
        ("max_seq_len = 256", "max_seq_len = 256\nrecall = 1", "model: recall must be true or"),
        ("final_ratio = 0.1", "final_ratio = 2", "schedule.final_ratio must be at most 1"),
        ("learning_rate = 0.01", "learning_rate = 0", "schedule.learning_rate must be above 0"),
        ("learning_rate = 0.01", "learning_rate = nan", "schedule.learning_rate must be at least"),
        ("learning_rate = 0.01", "learning_rate = inf", "schedule.learning_rate must be at least"),
        ("learning_rate = 0.01", 'learning_rate = "1"', "schedule.learning_rate must be a number"),
        ("clip_norm = 1.0", "clip_norm = 0.0", "schedule.clip_norm must be above 0"),
        ("beta2 = 0.99", "beta2 = 1", "schedule.beta2 must be below 1"),
        ("max_length = 8", "max_length = 128", "model.max_seq_len must be at least 258 .* got 256"),
    ],
)
def test_what_cannot_be_trained(tmp_path: Path, old: str, new: str, message: str) -> None:
    name = changed(tmp_path, old, new)
    with pytest.raises(PresetError, match=rf"^{name}: .*{message}"):
        load_preset(name)


@pytest.mark.parametrize("key", ["model", "schedule"])
def test_tables_are_needed(tmp_path: Path, key: str) -> None:
    values: dict[str, Any] = {"summary": '"s"', "tokenizer": '"letters"', "strings": '"letters"'}
    values |= {"match_places": "false", "model": "{}", "schedule": "{}", key: "5"}
    file = tmp_path / "flat.toml"
    file.write_text("".join(f"{k} = {value}\n" for k, value in values.items()))
    with pytest.raises(PresetError, match=f"{key} must be a table, got 5"):
        load_preset(str(file))


def test_a_table_of_positions_bounds_the_offset(tmp_path: Path) -> None:
    text = (
        TINY.read_text()
        .replace('"coupled"', '"learned"')
        .replace("d_position = 8", "d_position = 0")
    )
    fits = text.replace("max_offset = 100", "max_offset = 239")
    file = tmp_path / "learned.toml"
    file.write_text(fits)
    assert load_preset(str(file)).schedule.max_offset == 239
    file.write_text(fits.replace("239", "240"))
    with pytest.raises(PresetError, match=r"schedule.max_offset must be at most 239 .* got 240"):
        load_preset(str(file))
