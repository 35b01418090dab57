"""Presets: what is read from their files, what each of them comes to, and what is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.mixers.normalized import NormalizedParams
from causalrn.model.runner import Runner
from causalrn.model.tasks.base import IGNORED
from causalrn.model.training.preset import Preset, load_preset
from causalrn.model.training.preset_files import PresetError, preset_names
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from tests.model.tiny import TINY

# Made from the files as they were when each preset spelled out every value.
RECORDED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded_presets.json").read_text()
)


def changed(tmp_path: Path, old: str, new: str) -> str:
    text = TINY.read_text()
    assert text.count(old) == 1, old
    return write(tmp_path / "mine.toml", text.replace(old, new))


def write(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def resolved(preset: Preset) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(preset.to_json())
    return values


def test_a_file_of_ones_own() -> None:
    preset = load_preset(str(TINY))
    assert (preset.name, preset.blueprint.tokenizer.name, preset.seed) == ("tiny", "letters", 3)
    config = preset.blueprint.config
    assert (config.d_model, config.vocab_size, config.eos_id) == (24, 29, 2)
    assert preset.optimizer.steps == 45
    assert preset.blueprint.task.params.model_dump()["first_length"] == 2


PAPER = {
    "paper": "normalized", "paper-separable": "separable", "paper-transformer": "attention",
    "paper-linear-transformer": "linear_attention",
}  # fmt: skip
# Those that data, or options, tell the rest.
TEXTS = ["associative", "copy", "lm", "lm-base", "lm-bytes", "lm-large"]


def test_the_project_has_these_presets() -> None:
    assert preset_names() == sorted([*RECORDED, *PAPER, *TEXTS])


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_and_its_peers_have_its_protocol(name: str) -> None:
    preset = load_preset(name)
    config, optimizer = preset.blueprint.config, preset.optimizer
    assert [block.mixer for block in config.blocks] == [PAPER[name]] * 12
    assert (config.d_model, config.positions, config.norm_eps) == (192, "learned", 0.0)
    widths = {getattr(block.mlp, "width", None) for block in config.blocks}
    assert widths == {4 * 192 if "transformer" in name else None}
    assert (optimizer.steps, optimizer.warmup_steps, optimizer.final_ratio) == (2000, 50, 1.0)
    assert (optimizer.beta1, optimizer.beta2, optimizer.clip_norm) == (0.9, 0.999, 1.0)
    batch = preset.blueprint.task.batch(np.random.default_rng(0), 0.0)
    assert batch.token_ids.shape == (320, 2 * (16 + 1))
    assert (batch.token_ids[:, 0] == config.bos_id).all()
    assert (batch.token_ids[:, 17] == config.sep_id).all()
    assert (batch.targets != IGNORED).sum() == 320 * 17  # the string again, and EOS
    assert (batch.offsets == 0).all()


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_and_its_peers_can_be_trained_and_served(name: str, tmp_path: Path) -> None:
    few = ("task.batch_tokens=68", "task.max_strings=2", "optimizer.steps=2")
    trainer = Trainer(load_preset(name, few), Run(tmp_path / "run"))
    trainer.train(lambda _: None, lambda: False)
    model = load_checkpoint(tmp_path / "run")
    prompt = model.task.frame(model.tokenizer.encode("ab"), "copy")
    runner = Runner(model, [len(prompt) + 3])
    found = runner.read({0: prompt})[0]
    with torch.no_grad():
        expected = model.decoder(torch.tensor([prompt]))[0, -1]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_presets_come_to_what_they_always_were(name: str) -> None:
    expected = dict(RECORDED[name])
    del expected["batches"]
    preset = load_preset(name)
    assert preset.blueprint.config == ModelConfig.from_dict(expected.pop("model"))
    found = resolved(preset)
    del found["model"]
    assert found == expected
    assert preset.name == name
    assert preset.summary


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_presets_draw_what_they_always_drew(name: str) -> None:
    """At the beginning, a third and the end of their runs."""
    preset = load_preset(name)
    steps = preset.optimizer.steps
    digest = hashlib.sha256()
    for step in (0, steps // 3, steps - 1):
        rng = np.random.default_rng([preset.seed, step])
        batch = preset.blueprint.task.batch(rng, step / steps)
        for tensor in (batch.token_ids, batch.targets, batch.offsets):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == RECORDED[name]["batches"]


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    """All but the shape of the model."""
    text = TINY.read_text()
    shape = text[text.index("[model]") : text.index("[optimizer]")]
    preset = load_preset(write(tmp_path / "short.toml", shape))
    assert (preset.summary, preset.blueprint.tokenizer.name, preset.seed) == ("", "bytes", 0)
    assert preset.optimizer.steps == 1000
    task = preset.blueprint.task
    assert task.name == "copying"
    params = task.params.model_dump()
    assert (params["max_length"], params["first_length"], params["max_context"]) == (64, 64, 130)


def test_a_base_gives_what_a_preset_does_not_say(tmp_path: Path) -> None:
    """Tables are merged, lists are replaced; a path is relative to the file that names it."""
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner" / "own.toml", f'base = "{TINY}"\nseed = 4\n[task]\nwindow = 9\n')
    file = write(
        tmp_path / "mine.toml",
        'base = "inner/own.toml"\n[[model.blocks]]\nmixer = "normalized"\n'
        "params = { d_relation = 8 }\n[optimizer]\nsteps = 50\n",
    )
    found, base = resolved(load_preset(file)), resolved(load_preset(str(TINY)))
    assert found["model"] == base["model"] | {
        "blocks": [
            {
                "mixer": "normalized",
                "params": NormalizedParams(d_relation=8).model_dump(mode="json"),
            }
        ]
    }
    assert found["optimizer"] == base["optimizer"] | {"steps": 50}
    assert found["task"] == base["task"] | {"window": 9}
    assert (found["seed"], found["summary"]) == (4, base["summary"])


def test_a_preset_of_the_project_may_be_the_base(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", 'base = "exact-bytes"\n[optimizer]\nsteps = 3\n')
    found, base = resolved(load_preset(file)), resolved(load_preset("exact-bytes"))
    assert found["optimizer"].pop("steps") == 3
    assert base["optimizer"].pop("steps") == 150
    assert found == base


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = 3", "base must be the name of a preset, got 3"),
        ('base = "copy-azz"', r"base: no preset 'copy-azz' \(did you mean copy-az\?\)"),
        ('base = "absent.toml"', r"absent.toml: No such file or directory"),
        ('base = "mine.toml"', "base: 'mine.toml' is based on this preset itself"),
        ('base = "other.toml"', r"other.toml: base: 'mine.toml' is based on this preset itself"),
    ],
)
def test_a_base_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "other.toml", 'base = "mine.toml"')
    with pytest.raises(PresetError, match=message):
        load_preset(write(tmp_path / "mine.toml", text))


def test_an_error_names_the_file_that_has_the_value(tmp_path: Path) -> None:
    base = changed(tmp_path, "steps = 45", "steps = 0")
    file = write(tmp_path / "heir.toml", f'base = "{base}"\n[task]\nwindow = 7\n')
    with pytest.raises(PresetError, match=rf"^{base}: optimizer.steps must be at least 1, got 0$"):
        load_preset(file)
    write(tmp_path / "heir.toml", f'base = "{base}"\n[optimizer]\nsteps = 1\nbeta1 = 1\n')
    with pytest.raises(PresetError, match=rf"^{file}: optimizer.beta1 must be below 1"):
        load_preset(file)


def test_settings_replace_values() -> None:
    settings = [
        "optimizer.steps=100",
        "task.max_length = 32",
        'summary="set"',
        'model.blocks.0.mixer="normalized"',
        "seed=7",
        "seed=8",
    ]
    found = resolved(load_preset(str(TINY), settings))
    base = resolved(load_preset(str(TINY)))
    assert found["optimizer"] == base["optimizer"] | {"steps": 100}
    assert found["task"] == base["task"] | {"max_length": 32}
    assert found["model"] == base["model"] | {"blocks": [base["model"]["blocks"][1]] * 2}
    assert (found["summary"], found["seed"]) == ("set", 8)  # the last one counts


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "--set seed: must be KEY=VALUE, such as optimizer.steps=100"),
        ("=3", "--set =3: must be KEY=VALUE"),
        ("optimizer..steps=3", "must be KEY=VALUE"),
        (
            "task.strings=letters",
            "--set task.strings=letters: 'letters' is not a TOML value; text needs quotes: "
            "--set 'task.strings=\"letters\"'",
        ),
        ("seed=", "--set seed=: '' is not a TOML value"),
        ("seed=3\nmore=4", "is not a TOML value"),
        ("seed.x=3", "--set seed.x=3: seed is neither a table nor a list"),
        ("model.blocks.2=3", "model.blocks is a list of 2; its places are 0 to 1, not '2'"),
        ("model.blocks.x=3", "its places are 0 to 1, not 'x'"),
        ('base="copy-az"', "the base of a preset stands in its file"),
        (
            "optimizer.stepps=3",
            "--set optimizer.stepps=3: unknown key optimizer.stepps; did you mean steps?",
        ),
        ("optimizer.steps=1.5", "optimizer.steps=1.5: optimizer.steps must be a whole number"),
        ("task.max_length=500", "--set task.max_length=500: task.max_length must be at most 127"),
    ],
)
def test_settings_that_are_refused(setting: str, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset(str(TINY), [setting])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "copy-byte",
            r"no preset 'copy-byte' \(did you mean copy-bytes\?\); there are associative, copy",
        ),
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
    with pytest.raises(PresetError, match=r"x\.toml: not TOML: "):
        load_preset(str(tmp_path / "x.toml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("summary =", "sumary =", r"unknown key sumary; did you mean summary\?"),
        ("\nsteps =", "\nstepps =", r"unknown key optimizer.stepps; did you mean steps\?"),
        ("d_model = 24\n", "", "missing key model.d_model"),
        ("d_model = 24", "d_model = 24\nvocab_size = 30", "model.vocab_size is for the tokenizer"),
        ("d_model = 24", "d_model = 24.5", "model.d_model must be a whole number, got 24.5"),
        ("[optimizer]", "[zyx]", "unknown key zyx; known keys: summary, tokenizer, "),
        ("seed = 3", "seed = 3\ntask = 1", "not TOML: .* line"),
        ('tokenizer = "letters"', 'tokenizer = "words"', "there is no tokenizer 'words'; known"),
        ('tokenizer = "letters"', "tokenizer = []", r"tokenizer must be a name, or .*, got \[\]"),
        (
            'tokenizer = "letters"',
            'tokenizer = {name = "alphabet"}',
            r"missing key tokenizer\.symbols",
        ),
        (
            'tokenizer = "letters"',
            'tokenizer = "bytes"',
            "task.strings must be one of .* for the 'bytes' tokenizer, got 'letters'",
        ),
        ('strings = "letters"', 'strings = "bytes"', "task.strings must be one of .* got 'bytes'"),
        ('name = "copying"', 'name = "copy"', "task.name: there is no task 'copy'"),
        ('name = "copying"', "name = 3", "task.name must be a string, got 3"),
        ("window = 6", "windows = 6", r"unknown key task.windows; did you mean window\?"),
        ("window = 6", "window = 0", "task.window must be at least 1, got 0"),
        ("seed = 3", "seed = -1", "seed must be at least 0, got -1"),
        ("seed = 3", "seed = 3.0", "seed must be a whole number, got 3.0"),
        ("seed = 3", "seed = true", "seed must be a whole number, got True"),
        ("seed = 3", "match_places = 1", "match_places must be true or false, got 1"),
        ("steps = 45", "steps = 0", "optimizer.steps must be at least 1, got 0"),
        ("steps = 45", "steps = 45\nstop = 46", "optimizer: need stop <= steps, got 46 and 45"),
        ("batch_tokens = 128", "batch_tokens = 0", "task.batch_tokens must be at least 1"),
        ("max_strings = 8", "max_strings = 0", "task.max_strings must be at least 1"),
        ("max_turns = 3", "max_turns = 0", "task.max_turns must be at least 1"),
        ("max_context = 18", "max_context = 0", "task.max_context must be at least 1"),
        ("max_context = 18", "max_context = 257", "task.max_context must be at most .* = 256"),
        ("max_offset = 100", "max_offset = 0", "task.max_offset must be at least 1"),
        ("max_offset = 100", "min_length = 0", "task.min_length must be at least 1"),
        ("max_offset = 100", "min_length = 3", "task.first_length must lie between min_length = 3"),
        ("first_length = 2", "first_length = 9", "task.first_length must lie .* got 9"),
        ("growth = 0.5", "growth = 0.95", "task.growth must be at most 0.9, got 0.95"),
        ("growth = 0.5", "corruption = 1.5", "task.corruption must be at most 1, got 1.5"),
        ("growth = 0.5", "full = 1.1", "task.full must be at most 1, got 1.1"),
        ("growth = 0.5", "recall = 1.5", "task.recall must be at most 1, got 1.5"),
        ("growth = 0.5", "recall = false", "task.recall must be a number, got False"),
        ("growth = 0.5", "recall = 0.5", "task.recall needs model.recall = true"),
        ("final_ratio = 0.1", "final_ratio = 2", "optimizer.final_ratio must be at most 1, got 2"),
        ("final_ratio = 0.1", "clip_norm = 0.0", "optimizer.clip_norm must be above 0, got 0.0"),
        ("final_ratio = 0.1", "beta2 = 1", "optimizer.beta2 must be below 1, got 1"),
        ("learning_rate = 0.01", "learning_rate = 0", "optimizer.learning_rate must be above 0"),
        ("learning_rate = 0.01", "learning_rate = nan", "learning_rate must be a finite number"),
        ("learning_rate = 0.01", "learning_rate = inf", "learning_rate must be a finite number"),
        ("learning_rate = 0.01", 'learning_rate = "1"', "optimizer.learning_rate must be a number"),
        ("max_length = 8", "max_length = 128", "task.max_length must be at most 127 .* got 128"),
    ],
)
def test_what_cannot_be_trained(tmp_path: Path, old: str, new: str, message: str) -> None:
    name = changed(tmp_path, old, new)
    with pytest.raises(PresetError, match=rf"^{name}: .*{message}"):
        load_preset(name)


@pytest.mark.parametrize("key", ["model", "optimizer", "task"])
def test_tables_are_needed(tmp_path: Path, key: str) -> None:
    with pytest.raises(PresetError, match=f"{key} must be a table, got 5"):
        load_preset(write(tmp_path / "flat.toml", f"{key} = 5"))


def test_matched_places_need_coupled_positions(tmp_path: Path) -> None:
    text = (
        TINY.read_text().replace('"coupled"', '"none"').replace("d_position = 8", "d_position = 0")
    )
    file = write(tmp_path / "mine.toml", f"match_places = true\n{text}")
    with pytest.raises(PresetError, match="match_places needs coupled positions"):
        load_preset(file)


def test_a_table_of_positions_bounds_the_offset(tmp_path: Path) -> None:
    text = (
        TINY.read_text()
        .replace('"coupled"', '"learned"')
        .replace("d_position = 8", "d_position = 0")
    )
    fits = text.replace("max_offset = 100", "max_offset = 239")
    file = tmp_path / "learned.toml"
    load_preset(write(file, fits))
    with pytest.raises(PresetError, match=r"task.max_offset must be at most 239 .* got 240"):
        load_preset(write(file, fits.replace("239", "240")))
