"""lm-eval measures what a direct forward pass of the decoder says.

Its model `local-completions` asks `POST /v1/completions`, its remote tokenizer `/tokenizer_info`
and `/tokenize`. The tasks are in the folder `tasks`; nothing comes from the network.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from causalrn.model.checkpoint import Checkpoint, load_checkpoint

ROOT = Path(__file__).parents[2]
TASKS = Path(__file__).parent / "tasks"


def evaluate(url: str, folder: Path, tasks: list[str], **model_args: object) -> dict[str, Any]:
    """The results of `lm_eval run`, and in `folder` what it has written down of every sample."""
    known = {"model": copier().name, "base_url": f"{url}/v1/completions"}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"),
            *("--model_args", ",".join(f"{k}={v}" for k, v in (known | model_args).items())),
            *("--include_path", str(TASKS), "--tasks", *tasks, "--batch_size", "4"),
            *("--output_path", str(folder), "--log_samples"),
        ],
        cwd=ROOT,  # where the tasks look for their data
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = folder.glob("*/results_*.json")
    found: dict[str, Any] = json.loads(results.read_text())["results"]
    return found


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    """What a task has asked, and what it got; in the order of its data."""
    (path,) = folder.glob(f"*/samples_{task}_*.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    data = "endings" if task == "whole" else task
    assert len(found) == len((TASKS / f"{data}.jsonl").read_text().splitlines())
    return sorted(found, key=lambda sample: int(sample["doc_id"]))


@cache
def copier() -> Checkpoint:
    """Of the models that come with the project, one that reads on whatever it was given."""
    return load_checkpoint(ROOT / "checkpoints" / "copy-bytes")


def score(context: list[int], ending: str) -> tuple[float, bool]:
    """Log-probability of an ending after some ids, and whether the model would write it."""
    ids = list(ending.encode())
    with torch.inference_mode():
        logits = copier().decoder.forward(torch.tensor([context + ids]))[0].double()
    places = torch.arange(len(context) - 1, len(context) + len(ids) - 1)
    logprobs = torch.log_softmax(logits[places], dim=-1)
    total = math.fsum(logprobs[torch.arange(len(ids)), ids].tolist())
    return total, logprobs.argmax(dim=-1).tolist() == ids


def same(found: Sequence[float], expected: Sequence[float], endings: Sequence[str]) -> bool:
    """Whether sums of log-probabilities differ by at most 1e-4 a token.

    `forward` rounds other than `extend`, by which the server's are bitwise; see
    tests/end_to_end/test_scoring.py.
    """
    return all(
        abs(a - b) <= 1e-4 * len(ending.encode())
        for a, b, ending in zip(found, expected, endings, strict=True)
    )


def test_likelihoods_are_those_of_a_forward_pass(copier_url: str, tmp_path: Path) -> None:
    tasks = ["choices", "endings", "whole"]
    results = evaluate(copier_url, tmp_path, tasks, tokenizer_backend="remote")

    greedy = []
    for sample in samples(tmp_path, "endings"):
        ending = sample["doc"]["ending"]
        total, is_greedy = score(list(sample["doc"]["text"].encode()), ending)
        [[[found, found_greedy]]] = sample["resps"]
        assert same([float(found)], [total], [ending]), (found, total)
        assert found_greedy == str(is_greedy)
        greedy.append(is_greedy)
    assert set(greedy) == {True, False}
    assert results["endings"]["acc,none"] == sum(greedy) / len(greedy)

    right = []
    for sample in samples(tmp_path, "choices"):
        context = list(sample["doc"]["text"].encode())
        choices = sample["doc"]["choices"]
        totals = [score(context, choice)[0] for choice in choices]
        found_totals = [float(found) for [[found, _]] in sample["resps"]]
        assert same(found_totals, totals, choices), (found_totals, totals)
        right.append(totals.index(max(totals)) == sample["doc"]["answer"])
    assert results["choices"]["acc,none"] == sum(right) / len(right) > 0.5

    bos_id = copier().tokenizer.bos_id
    for sample in samples(tmp_path, "whole"):
        text = sample["doc"]["text"] + sample["doc"]["ending"]
        total, _ = score([bos_id], text)
        [[found]] = sample["resps"]
        assert same([float(found)], [total], [text]), (found, total)


def test_what_is_generated_is_an_exact_copy(copier_url: str, tmp_path: Path) -> None:
    # Text, and not ids: what asks for a copy is put around it by the server.
    args = {"tokenizer_backend": "none", "num_concurrent": 4}
    results = evaluate(copier_url, tmp_path, ["copies"], **args)
    assert results["copies"]["exact_match,none"] == 1
    for sample in samples(tmp_path, "copies"):
        assert sample["resps"] == [[sample["doc"]["text"]]]
