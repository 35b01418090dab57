"""Every kind of model of the experiments is trained, saved, served and asked over HTTP."""

import os
from pathlib import Path

import httpx

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.generation import generate
from causalrn.model.reproduction.job import Job
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from tests.end_to_end.served import served

MODELS = [
    "normalized", "separable", "transformer", "linear-transformer", "deltanet", "deltanet-nope",
    "rope-transformer", "hard-alibi-transformer", "shifted", "keyed", "pool-1-in-2", "rms",
    "power-3", "temperature", "heads-2", "pair-gelu", "separate-elu", "none-relu-bare",
    "pair-poly_relu", "none-poly_norm-bare", "relation-64-heads-4", "attention-8",
]  # fmt: skip
TEXT = "abcd"


def test_every_kind_of_model_answers(tmp_path: Path) -> None:
    for name in MODELS:
        preset = Job(name, len(TEXT), 1e-2, batch=8, steps=2, layers=2, width=24, seed=1).preset()
        assert Trainer(preset, Run(tmp_path / name)).train(lambda _: None, lambda: False)
    checkpoints = os.pathsep.join(str(tmp_path / name) for name in MODELS)
    with served(CAUSALRN_CHECKPOINT=checkpoints, CAUSALRN_PAGE_SIZE="16") as url:
        for name in MODELS:
            answer = httpx.post(
                f"{url}/generate", json={"prompt": TEXT, "model": name, "max_tokens": 5}, timeout=60
            )
            assert answer.status_code == 200, (name, answer.text)
            loaded = load_checkpoint(tmp_path / name)
            steps = generate(loaded, [loaded.tokenizer.encode(TEXT)], max_tokens=[5])
            assert answer.json()["token_ids"] == [step[0] for step in steps if step], name
