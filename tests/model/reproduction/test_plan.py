"""Plans: which trainings they lead to, and what is said of those that cannot be used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from causalrn.model.reproduction.job import Job
from causalrn.model.reproduction.models import MODELS, UnknownModelError, find_model
from causalrn.model.reproduction.plan import PlanError, load_plan, plan_names
from causalrn.model.training.preset_files import PresetError


def _job(model: str) -> Job:
    return Job(model, 5, 1e-3, batch=7, steps=9, layers=2, width=16, seed=3)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_preset(model: str) -> None:
    preset = _job(model).preset()
    config, optimizer = preset.blueprint.config, preset.optimizer
    assert (len(config.blocks), config.d_model, config.max_seq_len) == (2, 16, 13)
    assert (optimizer.steps, optimizer.learning_rate, preset.seed) == (9, 1e-3, 3)
    mixers = [find_model(model).block(number, 16)["mixer"] for number in range(2)]
    assert [block.mixer for block in config.blocks] == mixers


@pytest.mark.parametrize("task", ["associative", "induction", "languages", "selective"])
def test_other_tasks_have_presets_too(task: str) -> None:
    preset = replace(_job("normalized"), task=task).preset()
    batch = preset.blueprint.task.batch(np.random.default_rng(0), 0.0)
    assert batch.token_ids.shape == (7, preset.blueprint.config.max_seq_len - 1)


def test_the_memory_of_a_sequence_is_what_its_mixers_keep() -> None:
    tokens = 2 * 5 + 2
    per_token = 2 * (16 * 4 + 8)  # two layers of memories, and the sum of each in float64
    assert _job("normalized").memory() == tokens * per_token
    assert _job("transformer").memory() == tokens * 2 * 2 * 16 * 4
    assert _job("linear-transformer").memory() == 2 * 16 * 17 * 4


def test_models_that_tell_places_by_their_attention_have_no_other_positions() -> None:
    found = {name: _job(name).preset().blueprint.config for name in MODELS}
    others = {name for name, config in found.items() if config.positions != "learned"}
    placed = {"rope-transformer", "hard-alibi-transformer"}
    assert others == placed | {"deltanet-nope", "keyed", "shifted"}
    assert all(found[name].positions == "none" for name in others)
    params = {name: found[name].to_dict()["blocks"][0]["params"] for name in placed}
    assert params["rope-transformer"] == {
        "d_attention": 16, "n_head": 1, "rotary": True, "windows": None
    }  # fmt: skip
    assert params["hard-alibi-transformer"] == {
        "d_attention": 16, "n_head": 8, "rotary": False, "windows": [1, 2, 3, 4, 0, 0, 0, 0]
    }  # fmt: skip


def test_strings_of_many_lengths_and_room_for_longer_ones() -> None:
    preset = replace(_job("shifted"), shortest=2, beyond=(8, 30)).preset()
    assert preset.blueprint.config.max_seq_len == 63
    params = preset.blueprint.task.params.model_dump()
    assert (params["min_length"], params["max_length"]) == (2, 5)


def test_hybrids_have_a_pool_at_the_end_of_so_many_layers() -> None:
    config = replace(_job("pool-1-in-3"), layers=6).preset().blueprint.config
    assert [block.mixer[0] for block in config.blocks] == ["s", "s", "n", "s", "s", "n"]


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(PresetError, match=r"d_attention \(20\) must be a multiple of n_head \(8\)"):
        replace(_job("hard-alibi-transformer"), width=20).preset()


def test_what_is_not_said_is_as_in_the_paper() -> None:
    (contest,) = load_plan("paper").contests()[-2:-1]
    preset = contest.jobs[0].preset()
    assert preset.optimizer.steps == 2000
    assert preset.optimizer.learning_rate == 5e-4
    assert preset.blueprint.config.d_model == 192
    assert len(preset.blueprint.config.blocks) == 12
    assert preset.blueprint.config.norm_eps == 0


@pytest.mark.parametrize("name", plan_names())
def test_plans_of_the_project(name: str) -> None:
    jobs = [job for contest in load_plan(name).contests() for job in contest.jobs]
    assert len({job.name for job in jobs}) == len(jobs)


def test_learning_rates_compete_within_a_contest(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        '[[runs]]\nmodels = ["normalized", "none-relu"]\nlengths = [2, 3]\n'
        "learning_rates = [1e-3, 2e-3]\nsweep_steps = 4\n"
    )
    contests = load_plan(str(file)).contests()
    assert [len(contest.jobs) for contest in contests] == [2, 2, 2, 2]
    for contest in contests:
        assert contest.sweep_steps == 4
        assert len({(job.model, job.length) for job in contest.jobs}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[runs]]\nmodels = ["gru"]\nlengths = [2]\n', "there is no model 'gru'"),
        ('[[runs]]\nmodels = ["normalized"]\n', r"runs\.0\.lengths"),
        ('[[runs]]\nmodels = ["normalized"]\nlengths = [2]\nstep = 1\n', r"runs\.0\.step"),
        (
            '[[runs]]\nmodels = ["normalized"]\nlengths = [2]\ntask = "induction"\nshortest = 1\n',
            "shortest and beyond are of strings",
        ),
        ('[[runs]]\nmodels = ["normalized"]\nlengths = [2]\nshortest = 3\n', "at most 2"),
        ('[[runs]]\nmodels = ["normalized"]\nlengths = [2]\ntask = "sorting"\n', "no task"),
        ("runs = [", "not TOML"),
    ],
)
def test_a_plan_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(PlanError, match=message) as caught:
        load_plan(str(file))
    assert str(file) in str(caught.value)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError,
        match="there are ablations, associative, beyond, contexts, full, hybrids, "
        "normalizations, paper, pools, quick",
    ):
        load_plan("slow")
    with pytest.raises(PlanError, match="No such file"):
        load_plan(str(tmp_path / "plan.toml"))
    with pytest.raises(UnknownModelError, match="did you mean normalized"):
        find_model("normalised")
