"""Answers of every shipped checkpoint, recorded once: what no change of the code may change.

    python -m tests.end_to_end.recorded_answers

writes `recorded/CHECKPOINT.json` anew, which is right only when a checkpoint itself has changed,
what `text` makes of the same ids, or the arithmetic of a kernel, which the CHANGELOG then says.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.end_to_end.served import ROOT, served

FOLDER = Path(__file__).parent / "recorded"
CHECKPOINTS = sorted(path.parent.name for path in (ROOT / "checkpoints").glob("*/config.json"))

_TEXT = (
    "Die Fähre nach Turku legt um 21:05 Uhr an Pier 4 ab.\n"
    '{"name": "東京 🚄", "tags": ["née", "née", "née"], "score": -0.5}\n'
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabababababababab\n"
)
_SAMPLING: list[dict[str, Any]] = [
    {"temperature": 0.7, "seed": 1},
    {"temperature": 1.5, "seed": 2, "top_k": 5, "min_p": 0.01},
    {"temperature": 1.2, "seed": 3, "top_p": 0.8, "presence_penalty": 0.5},
    {"temperature": 0, "repetition_penalty": 1.3, "frequency_penalty": 0.2, "min_tokens": 6},
    {"temperature": 1.0, "seed": 4, "n": 3, "ignore_eos": True},
]


def requests(checkpoint: str) -> list[dict[str, Any]]:
    """Bodies of `POST /generate`, in order; those with "session" are turns of one session."""
    rng = Random(0)
    letters = checkpoint == "copy-az"
    first, last = (3, 28) if letters else (0, 255)
    bos, sep = (0, 1) if letters else (256, 257)

    def ids(n: int) -> list[int]:
        return [rng.randint(first, last) for _ in range(n)]

    copies = [ids(n) for n in (1, 2, 7, 63, 64, 65, 150, 300)]
    copies += [[first] * 40, [first, last] * 30, ids(16) * 6]
    if not letters:
        copies.append(list(_TEXT.encode()))
    bodies: list[dict[str, Any]] = [{"token_ids": copy, "logprobs": 0} for copy in copies]
    bodies += [{"token_ids": ids(24), "max_tokens": 20, "logprobs": 2} | one for one in _SAMPLING]
    context = [bos, *copies[3], sep, *copies[3][:20]]
    bodies.append(
        {"token_ids": context, "mode": "raw", "max_tokens": 4, "echo": True, "logprobs": 1}
    )
    turns = [ids(30), ids(30), copies[4]]
    bodies += [{"token_ids": turn, "logprobs": 0, "session": True} for turn in turns]
    if checkpoint == "exact-bytes":
        bodies += [
            {"token_ids": turn[:9], "mode": "recall", "max_tokens": 40, "logprobs": 0}
            | {"session": True}
            for turn in turns
        ]
    return bodies


def answers(url: str, bodies: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The samples of each request: text, ids and log-probabilities."""
    with httpx.Client(base_url=url, timeout=60) as client:
        session = client.post("/sessions").raise_for_status().json()["id"]
        for body in bodies:
            sent = {name: value for name, value in body.items() if name != "session"}
            if body.get("session"):
                sent["session_id"] = session
            answer = client.post("/generate", json=sent).raise_for_status().json()
            yield [_sample(sample) for sample in answer.get("samples", [answer])]


def _sample(sample: dict[str, Any]) -> dict[str, Any]:
    known = {name: sample[name] for name in ("text", "token_ids", "finish_reason")}
    known["logprobs"] = [one["logprob"] for one in sample["logprobs"]]
    tops = [[[top["token_id"], top["logprob"]] for top in one["top"]] for one in sample["logprobs"]]
    return known | ({"top": tops} if any(tops) else {})


@contextmanager
def served_checkpoint(name: str, folder: Path) -> Iterator[str]:
    """Address of a server of one checkpoint."""
    with served(
        CAUSALRN_CHECKPOINT=str(ROOT / "checkpoints" / name),
        CAUSALRN_SESSION_STORE=str(folder / f"{name}.db"),
    ) as url:
        yield url


def main() -> None:
    """Record the answers of the code as it is."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        for name in CHECKPOINTS:
            with served_checkpoint(name, Path(folder)) as url:
                recorded = list(answers(url, requests(name)))
            text = json.dumps(recorded, ensure_ascii=False, separators=(",", ":"))
            (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
