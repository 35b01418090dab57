"""How many bits models need for each byte of a text, by how much of it they have read before."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch.nn.functional import cross_entropy

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.data.corpus import make_corpus
from causalrn.model.data.documents import Format
from causalrn.model.data.survey import Survey, survey
from causalrn.model.evaluation.cost import token_cost
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.progress import Report, reported
from causalrn.model.tables import markdown
from causalrn.model.tasks.text import windows
from causalrn.model.tokenizers.registry import describe_tokenizer

_FIRST = 16  # tokens of the first group; each group after it doubles what was read before


@dataclass(frozen=True)
class Cell:
    """What a model needed at some places of its contexts.

    Attributes:
        model: its name.
        begin, end: tokens that it had read before, at least and less than.
        tokens: that were predicted.
        bits: per byte of their text.
    """

    model: str
    begin: int
    end: int
    tokens: int
    bits: float

    @property
    def key(self) -> tuple[str, int]:
        """Which of the results it is."""
        return self.model, self.end


def bits(
    checkpoints: Sequence[Checkpoint],
    paths: Sequence[Path],
    form: Format,
    context: int,
    n_sequences: int,
) -> Measurement[Cell]:
    """Measure models on the same texts.

    Args:
        checkpoints: the models, whose names differ.
        paths: files and folders.
        form: how documents stand in them.
        context: tokens of each sequence.
        n_sequences: passages at even distances, at most.

    Raises:
        DataError: something of the texts cannot be used.
        EvaluationError: a model holds fewer tokens, or two have the same name.
    """
    names = [checkpoint.name for checkpoint in checkpoints]
    if len({*names}) < len(names):
        raise EvaluationError(f"two of these checkpoints have the same name: {', '.join(names)}")
    for checkpoint in checkpoints:
        if checkpoint.config.max_seq_len < context:
            raise EvaluationError(
                f"{checkpoint.name} holds {checkpoint.config.max_seq_len} tokens, fewer than "
                f"--context {context}"
            )
    read: list[_Passages] = []
    passages: dict[str, _Passages] = {}
    with reported("data") as report:
        found = survey(paths, form, report)
        for checkpoint in checkpoints:
            kind = json.dumps(describe_tokenizer(checkpoint.tokenizer))
            if kind not in passages:
                passages[kind] = _passages(checkpoint, found, form, context, n_sequences, report)
            read.append(passages[kind])
    parts = [_part(*one) for one in zip(checkpoints, read, strict=True)]
    settings = {
        "data": [str(path) for path in paths],
        "models": dict(zip(names, (one.fingerprint for one in checkpoints), strict=True)),
        "tokens": [one.fingerprint for one in read],
        "context": context,
        "sequences": n_sequences,
    }
    return Measurement(settings, TypeAdapter(list[Cell]), parts, table)


@dataclass(frozen=True)
class _Passages:
    """Passages of texts as tokens.

    Attributes:
        token_ids: of each, `[n]` int64.
        bytes_per_token: of all texts.
        fingerprint: of all tokens.
    """

    token_ids: list[NDArray[np.int64]]
    bytes_per_token: float
    fingerprint: str


def _passages(
    checkpoint: Checkpoint,
    found: Survey,
    form: Format,
    context: int,
    n_sequences: int,
    report: Report,
) -> _Passages:
    with TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder), found, form, checkpoint.tokenizer, 1.0, report)
        texts = corpus.validation
        token_ids = list(windows(texts, context, n_sequences))
        return _Passages(token_ids, texts.bytes_per_token, corpus.fingerprint)


def _part(checkpoint: Checkpoint, read: _Passages) -> Part[Cell]:
    passages = read.token_ids
    groups = list(groups_of(max(map(len, passages)) - 1))
    costs = [len(ids) * token_cost(len(ids) / 2) for ids in passages]

    def measure(advance: Advance) -> list[Cell]:
        nats = np.zeros(len(groups))
        tokens = np.zeros(len(groups), np.int64)
        for ids, cost in zip(passages, costs, strict=True):
            each = losses(checkpoint, torch.from_numpy(ids))
            for number, (begin, end) in enumerate(groups):
                own = each[begin:end]
                nats[number] += own.sum()
                tokens[number] += len(own)
            advance(cost)
        scale = math.log(2) * read.bytes_per_token
        return [
            Cell(checkpoint.name, begin, end, int(n), float(total / n / scale))
            for (begin, end), total, n in zip(groups, nats, tokens, strict=True)
        ]

    keys = [(checkpoint.name, end) for _, end in groups]
    return Part(checkpoint.name, keys, sum(costs), measure)


def losses(checkpoint: Checkpoint, ids: torch.Tensor) -> NDArray[np.float64]:
    """Nats of each token but the first."""
    with torch.no_grad():
        logits = checkpoint.decoder(ids[None, :-1])[0]
    losses = cross_entropy(logits, ids[1:].to(logits.device), reduction="none")
    found: NDArray[np.float64] = losses.double().cpu().numpy()
    return found


def groups_of(n: int) -> Iterator[tuple[int, int]]:
    """Begins and ends of groups of `n` places, each as long as all before it together."""
    begin, end = 0, _FIRST
    while begin < n:
        yield begin, min(end, n)
        begin, end = end, 2 * end


def table(cells: Sequence[Cell]) -> str:
    """A Markdown table: what was read before in rows, models in columns, and all of it below."""
    names = list(dict.fromkeys(cell.model for cell in cells))
    found = {cell.key: cell for cell in cells}
    rows = [["tokens read before", *names]]
    for begin, end in sorted({(cell.begin, cell.end) for cell in cells}):
        own = [found.get((name, end)) for name in names]
        shown = ["" if cell is None else f"{cell.bits:.3f}" for cell in own]
        rows.append([f"{begin:,} to {end - 1:,}", *shown])
    rows.append(["all", *(f"{mean([c for c in cells if c.model == n]):.3f}" for n in names)])
    return f"Bits per byte of text:\n\n{markdown(rows)}"


def mean(cells: Sequence[Cell]) -> float:
    """Bits per byte over all tokens."""
    return sum(cell.bits * cell.tokens for cell in cells) / sum(cell.tokens for cell in cells)
