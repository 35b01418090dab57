"""Language models of one size, trained alike on the same documents.

    python -m benchmarks.language --data FOLDER [--folder runs/language] [--tokens 10000000]
        [--shipped CHECKPOINT] [--output FILE]

`lm-bytes`, which sums the context up in most layers and keeps a pool in every third, is trained
beside models with a pool in every layer, with none, two Transformers, and one that sees no further
than its taps; each reads so many tokens of the documents. An interrupted training goes on where it
was. Then all of them, n-grams, and a checkpoint that was trained on the same documents for longer,
are measured on the documents that are held out: bits per byte by how much was read before; bits of
a passage that comes twice; what a session takes; tokens per second through the server. The last
line is JSON.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray

import causalrn
from benchmarks.engine import best, draw_prompts
from benchmarks.figures import arguments, machine, publish, start
from benchmarks.load import run_http
from benchmarks.ngram import NGram
from benchmarks.server_process import causalrn_server
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.data.corpus import Corpus
from causalrn.model.data.documents import Format
from causalrn.model.data.options import HELD_OUT
from causalrn.model.evaluation.bits import groups_of, losses
from causalrn.model.state import sequence_bytes
from causalrn.model.tasks.text import Text, windows
from causalrn.model.training.preset import make_preset
from causalrn.model.training.preset_files import PresetValues
from causalrn.model.training.reading import Reading

PRESETS = Path(__file__).parent / "presets" / "language"
HYBRID = "lm-bytes"
MODELS = [HYBRID, *sorted(file.stem for file in PRESETS.glob("*.toml"))]
ORDERS = (3, 4, 5, 6)
_PASSAGE = 256  # tokens of what comes twice
_N_PASSAGES = 256
_SESSIONS = (1024, 16384)  # tokens of the sessions whose memory is given
_STREAMS = (1, 16)
_PROMPT, _NEW = 512, 256


def preset_of(model: str) -> str:
    """The preset that a model is trained by."""
    return model if model == HYBRID else str(PRESETS / f"{model}.toml")


def train(model: str, data: Sequence[Path], folder: Path, n_tokens: int) -> None:
    """Train a model, or what is left of it."""
    task = make_preset(PresetValues(preset_of(model))).blueprint.task
    assert isinstance(task, Text)
    steps = round(n_tokens / (task.params.context * task.params.n_sequences))
    settings = [f"optimizer.steps={steps}"]
    print(f"{model}: {steps:,} steps", flush=True)
    causalrn.train(preset_of(model), data=data, settings=settings, output=folder / model)


def documents(model: str, data: Sequence[Path], folder: Path) -> Corpus:
    """The documents that a model was trained on, and those that were held out."""
    blueprint = make_preset(PresetValues(preset_of(model))).blueprint
    corpus = Reading.of(data, Format(), HELD_OUT).read(blueprint, folder / model / "data")
    assert corpus is not None
    return corpus


def bits_of(checkpoint: Checkpoint, passages: Iterable[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Bits of each token but the first of passages of one length: `[P, T - 1]`."""
    nats = np.stack([losses(checkpoint, torch.from_numpy(ids)) for ids in passages])
    return nats / math.log(2)


def by_context(bits: NDArray[np.float64], bytes_per_token: float) -> list[dict[str, float]]:
    """Bits per byte, of bits `[P, T]`, by how many tokens were read before."""
    return [
        {"begin": begin, "end": end, "bits": float(bits[:, begin:end].mean() / bytes_per_token)}
        for begin, end in groups_of(bits.shape[1])
    ]


def measure(checkpoint: Checkpoint, corpus: Corpus, context: int) -> dict[str, Any]:
    """What a model makes of the documents that are held out, and what its sessions take."""
    part, decoder = corpus.validation, checkpoint.decoder
    bits = bits_of(checkpoint, windows(part, context, len(part.token_ids)))
    once = windows(part, _PASSAGE - 1, _N_PASSAGES)
    copies = bits_of(checkpoint, (np.tile(ids, 2) for ids in once)) / part.bytes_per_token
    return {
        "parameters": sum(parameter.numel() for parameter in decoder.parameters()),
        "fingerprint": checkpoint.fingerprint,
        "bits": float(bits.mean() / part.bytes_per_token),
        "by_context": by_context(bits, part.bytes_per_token),
        "first": float(copies[:, : _PASSAGE - 1].mean()),
        "second": float(copies[:, _PASSAGE:].mean()),
        "session_bytes": {n: sequence_bytes(decoder.specs, n) for n in _SESSIONS},
    }


def speed(folder: Path) -> dict[int, float]:
    """Tokens per second through a server, by the number of streams; the best of three rounds."""
    chosen = {"checkpoint": folder.absolute(), "max_running": max(_STREAMS)}
    rng, found = np.random.default_rng(0), {}
    with causalrn_server(chosen) as server:
        for n in _STREAMS:
            rounds = [
                uvloop.run(run_http(server.url, draw_prompts(rng, n, _PROMPT), _NEW))
                for _ in range(3)
            ]
            found[n] = best(rounds)["tokens_per_second"]
    return found


def count(corpus: Corpus, order: int, vocab_size: int, context: int) -> dict[str, float]:
    """What n-grams make of the documents that are held out, in passages as models read them."""
    part = corpus.validation
    ngram = NGram(corpus.train.token_ids.astype(np.int64), vocab_size, order)
    bits = [ngram.bits(ids) for ids in windows(part, context, len(part.token_ids))]
    return {"order": order, "bits": float(np.mean(bits) / part.bytes_per_token)}


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files and folders")
    parser.add_argument("--folder", type=Path, default=Path("runs/language"), help="of trainings")
    parser.add_argument("--tokens", type=int, default=10_000_000, help="each model is to read")
    parser.add_argument("--shipped", type=Path, help="checkpoint that was trained for longer")
    options = parser.parse_args()
    folders = {model: options.folder / model for model in MODELS}
    for model in MODELS:
        train(model, options.data, options.folder, options.tokens)
    corpus = documents(HYBRID, options.data, options.folder)
    context = _context(folders[HYBRID])
    if options.shipped is not None:
        folders[f"{HYBRID}, shipped"] = options.shipped
    models = {}
    for name, folder in folders.items():
        models[name] = measure(load_checkpoint(folder), corpus, context)
        models[name]["tokens_per_second"] = speed(folder)
        print(f"{name:20} {models[name]['bits']:.3f} bits per byte", flush=True)
    vocab_size = load_checkpoint(folders[HYBRID]).config.vocab_size
    ngrams = [count(corpus, order, vocab_size, context) for order in ORDERS]
    for one in ngrams:
        print(f"{one['order']}-gram {one['bits']:.3f} bits per byte")
    figures = {
        "documents": corpus.n_documents,
        "bytes": corpus.train.n_bytes,
        "held_out_bytes": corpus.validation.n_bytes,
        "data": corpus.fingerprint,
        "tokens": options.tokens,
        "context": context,
        "prompt": _PROMPT,
        "new": _NEW,
        "models": models,
        "ngrams": ngrams,
    }
    publish(machine() | figures, options.output)


def _context(folder: Path) -> int:
    task = load_checkpoint(folder).task
    assert isinstance(task, Text)
    return task.params.context


if __name__ == "__main__":
    start(main)
