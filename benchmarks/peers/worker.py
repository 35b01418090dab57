"""What the processes of peers have in common. They run in environments without this project's."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

FIRST_CHARACTER = 0x4E00
"""Code point of token 0's text in a peer's vocabulary; the others follow in order.

Every token is one character, whole in UTF-8, so that a server has nothing to hold back.
"""

_TUNING_TOKENS = 32
_TUNING_PROMPTS = 16384  # tokens in all; longer ones take minutes with the slowest settings
_TRIES = 2
_TUNING_SECONDS = 2.0  # after which nothing is tried again

S = TypeVar("S")


@dataclass(frozen=True)
class Job:
    """Random prompts to continue greedily, all at once.

    Attributes:
        batch: number of prompts.
        prompt: tokens in each.
        new: tokens to write for each.
        draft: tokens that are guessed for each in every step; every guess counts as right.
    """

    batch: int
    prompt: int
    new: int
    draft: int = 0


@dataclass(frozen=True)
class Timing:
    """How long a job took.

    Attributes:
        first: seconds until the first token of every prompt was there.
        seconds: until the last was.
    """

    first: float
    seconds: float


def arguments(doc: str | None) -> argparse.Namespace:
    """The folder for a peer's model, and the model's shape."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("folder", type=Path)
    for name in ("vocab", "width", "layers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def serve(
    about: dict[str, Any], settings: Callable[[Job], Iterable[S]], run: Callable[[Job, S], Timing]
) -> None:
    """Say what the peer is, then do the jobs on standard input, all as lines of JSON.

    Each kind of job is done with the settings with which it was fastest when it came first, with
    guesses or without.

    Args:
        about: versions and number of parameters.
        settings: those to try for a job.
        run: does a job with some settings.
    """
    print(json.dumps(about), flush=True)
    chosen: dict[Job, S] = {}
    for line in sys.stdin:
        job = Job(**json.loads(line))
        plain = replace(job, draft=0)
        if plain not in chosen:
            chosen[plain] = fastest(plain, settings(plain), run)
        answer = asdict(run(job, chosen[plain])) | {"settings": str(chosen[plain])}
        print(json.dumps(answer), flush=True)


def fastest(job: Job, settings: Iterable[S], run: Callable[[Job, S], Timing]) -> S:
    """The settings with which the job would take the least time, judged by its beginning.

    Where its prompts have more than `_TUNING_PROMPTS` tokens in all, by that of shorter ones.
    """
    few = min(job.new, _TUNING_TOKENS)
    short = replace(job, new=few, prompt=min(job.prompt, _TUNING_PROMPTS // job.batch))

    def seconds(one: S) -> float:
        timings: list[Timing] = []
        while len(timings) < _TRIES and sum(t.seconds for t in timings) < _TUNING_SECONDS:
            timings.append(run(short, one))
        return min(t.first + (t.seconds - t.first) * job.new / few for t in timings)

    return min(settings, key=seconds)
