"""Where 16 bits are too few: weights, pool and sums of the paper's model, each by itself.

    python -m benchmarks.precision [--output FILE]

Computes in plain torch, with float32 for all that is not rounded (`benchmarks/rounded.py`). First,
the paper's model is trained with each rounding, on batches of 64 strings of 16 letters, until it
copies all strings that were held out. Then what was trained without one, and `copy-bytes`, copies
strings with each rounding. A string that is right where the model reads what it should have written
is right where it reads what it wrote. The last line is JSON.
"""

import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from benchmarks import precision_tables
from benchmarks.figures import arguments, machine, publish, start
from benchmarks.rounded import RoundedDecoder, Rounding
from causalrn.model.arguments import start_backend
from causalrn.model.blueprint import Blueprint
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.reproduction.job import Job
from causalrn.model.reproduction.measuring import held_out
from causalrn.model.shipped import CHECKPOINTS
from causalrn.model.tasks.base import IGNORED, Batch
from causalrn.model.tasks.copying import Copying
from causalrn.model.training.batches import Batches
from causalrn.model.training.trainer import learning_rate

Results = dict[str, Any]

LENGTH = 16
JOB = Job("normalized", LENGTH, 1e-3, batch=64, steps=400, layers=12, width=192, seed=1)
SERVED = "copy-bytes"
SERVED_LENGTHS = (64, 256, 640)
STRINGS = 64
_EVERY = 25  # steps between evaluations
_AT_A_TIME = 8  # strings
_FEW = 16  # long strings

WHERE: dict[str, dict[str, bool]] = {
    "nowhere": {},
    "weights": {"weights": True},
    "pool": {"pool": True},
    "sums over memories": {"sums": True},
    "the same, exponents lowered": {"sums": True, "lowered": True},
    "sums over channels": {"moments": True},
}
KEPT = "weights, also between steps"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def roundings() -> Iterator[tuple[str, str, Rounding]]:
    """All of them: what is rounded, to what, and how."""
    yield "nowhere", "float32", Rounding()
    for where, parts in WHERE.items():
        for name, dtype in DTYPES.items():
            # Only numbers that overflow gain by smaller exponents.
            if parts and not (parts.get("lowered") and name == "bfloat16"):
                yield where, name, Rounding(dtype, **parts)


def train(rounding: Rounding, *, keeps: bool) -> tuple[Decoder, Results]:
    """Train the model with a rounding.

    Args:
        rounding: of every step, forward; gradients pass through it.
        keeps: whether weights stay rounded between steps as well.

    Returns:
        The model, and how it went, as JSON-ready values.
    """
    preset = JOB.preset()
    torch.manual_seed(preset.seed)
    decoder = Decoder(preset.blueprint.config)
    model = RoundedDecoder(decoder, rounding)
    optimizer = torch.optim.AdamW(
        decoder.parameters(), betas=(0.9, preset.optimizer.beta2), weight_decay=0.0
    )
    kept = strings(preset.blueprint, LENGTH, STRINGS)
    batches, step, exact, right, outcome = Batches(preset, 0), 0, 0, 0.0, "stopped"
    while step < JOB.steps and exact < STRINGS:
        batch = batches.of_step(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(preset.optimizer, step)
        logits, wanted = model(batch.token_ids, batch.offsets), batch.targets != IGNORED
        loss = nn.functional.cross_entropy(logits[wanted], batch.targets[wanted])
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(decoder.parameters(), preset.optimizer.clip_norm)
        if not (loss.isfinite() and norm.isfinite()):
            outcome = "diverged"
            break
        optimizer.step()
        if keeps:
            with torch.no_grad():
                for parameter in decoder.parameters():
                    parameter.copy_(rounding.round(parameter, "weights"))
        step += 1
        if step % _EVERY == 0:
            exact, right = copies(model, kept)
    if exact == STRINGS:
        outcome = "learned"
    return decoder, {"outcome": outcome, "step": step, "exact": exact, "right": right}


def strings(shape: Blueprint | Checkpoint, length: int, n: int) -> Batch:
    """Strings that no training has seen, one a context."""
    assert isinstance(shape.task, Copying)
    return held_out(shape, shape.task, JOB.seed, length, n)


def copies(model: RoundedDecoder, batch: Batch) -> tuple[int, float]:
    """How many strings are copied without a mistake, and the share of tokens that are right."""
    rights = []
    for first in range(0, len(batch.token_ids), _AT_A_TIME):
        part = slice(first, first + _AT_A_TIME)
        with torch.no_grad():
            logits = model(batch.token_ids[part], batch.offsets[part])
        targets = batch.targets[part]
        wanted = targets != IGNORED
        # What is not a number is not right, though it would be the largest.
        is_sound = logits.isfinite().all(-1)
        right = (logits.argmax(-1) == targets) & is_sound
        rights.append(right[wanted].unflatten(0, (len(targets), -1)))
    right = torch.cat(rights)
    return int(right.all(1).sum()), float(right.double().mean())


def serve(shape: Blueprint | Checkpoint, decoder: Decoder, length: int, n: int) -> Results:
    """How a model copies with each rounding that it was not trained with, as JSON-ready values."""
    batch, rows = strings(shape, length, n), []
    for where, name, rounding in roundings():
        exact, right = copies(RoundedDecoder(deepcopy(decoder), rounding), batch)
        rows.append({"where": where, "dtype": name, "exact": exact, "right": right})
        tell(f"copies of {length} tokens, {name} {where}: {exact} of {n}")
    return {"length": length, "strings": n, "rows": rows}


def measure() -> Results:
    """All figures, as JSON-ready values."""
    start_backend(None, "cpu")
    trained, unrounded = [], None
    for where, name, rounding in roundings():
        for keeps in (False, True) if rounding.weights else (False,):
            label = KEPT if keeps else where
            began = time.monotonic()
            decoder, found = train(rounding, keeps=keeps)
            unrounded = unrounded or decoder
            trained.append({"where": label, "dtype": name, **found})
            took = time.monotonic() - began
            tell(f"trained, {name} {label}: {found['outcome']} after {found['step']}, {took:.0f} s")
    assert unrounded is not None
    small = serve(JOB.preset().blueprint, unrounded, LENGTH, STRINGS)
    checkpoint = load_checkpoint(CHECKPOINTS / SERVED)
    shipped = [serve(checkpoint, checkpoint.decoder, n, _FEW) for n in SERVED_LENGTHS]
    return machine() | {
        "job": asdict(JOB),
        "trained": trained,
        "served": [{"model": JOB.model, **small}, *({"model": SERVED, **one} for one in shipped)],
    }


def tell(progress: str) -> None:
    """Say how far it is."""
    print(progress, file=sys.stderr, flush=True)


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    figures = measure()
    print(precision_tables.training(figures), precision_tables.serving(figures), sep="\n\n")
    publish(figures, output)


if __name__ == "__main__":
    start(main)
