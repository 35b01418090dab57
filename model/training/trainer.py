"""The training loop: stateless in its data, so that a resumed run equals an uninterrupted one."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from model.checkpoint import Checkpoint, save_checkpoint
from model.decoder import Decoder
from model.tasks.copying import IGNORED, copy_batch
from model.tasks.strings import SOURCES
from model.tokenizer import TOKENIZERS
from model.training.growth import can_grow, grow
from model.training.preset import Preset, Schedule
from model.training.run import Run, RunError

_LOG_EVERY = 20
_SAVE_SECONDS = 60.0


class DivergedError(ArithmeticError):
    """The loss or its gradient is no longer a finite number. The message says what to change."""


@dataclass(frozen=True)
class Progress:
    """What a step did.

    Attributes:
        step: steps done.
        loss: mean cross-entropy of this step's targets, in nats.
        accuracy: share of this step's targets that were the likeliest token.
        tokens_per_second: of this step, source and output.
        length_limit: longest string that this step could draw.
        learning_rate: of this step.
        gradient_norm: before clipping.
        seconds: trained so far, earlier parts of a resumed run included.
    """

    step: int
    loss: float
    accuracy: float
    tokens_per_second: float
    length_limit: int
    learning_rate: float
    gradient_norm: float
    seconds: float


class Trainer:
    """Trains one preset in one folder.

    Args:
        preset: the recipe.
        run: where state, log and checkpoint go; an existing state is resumed.
        start: a checkpoint to begin with, of the same shape or one that can grow into it; random
            weights if left out.

    Raises:
        RunError: the folder holds a state that is not of this preset and start, or a checkpoint;
            or the start cannot grow into the preset's shape.
    """

    def __init__(self, preset: Preset, run: Run, start: Checkpoint | None = None) -> None:
        self.preset, self.run = preset, run
        schedule = preset.schedule
        torch.manual_seed(schedule.seed)
        self.model = Decoder(preset.model)
        if preset.match_places:
            self.model.match_places()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=schedule.learning_rate,
            betas=(schedule.beta1, schedule.beta2),
            weight_decay=0.0,
        )
        if start is not None:
            if not can_grow(start.config, preset.model):
                raise RunError(f"{start.path} cannot grow into the shape of preset {preset.name!r}")
            grow(start.decoder, self.model)
        self.recipe = repr((asdict(preset), None if start is None else start.fingerprint))
        self.step, self.seconds = 0, 0.0
        if run.exists:
            self.step, self.seconds = run.restore(self.recipe, self.model, self.optimizer)
        else:
            run.begin()

    def train(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> bool:
        """Run to the end, or until `stop()`; save in either case.

        Args:
            report: called after every step.
            stop: asked after every step.

        Returns:
            Whether the run is complete; its checkpoint then lies in the run's folder.

        Raises:
            DivergedError: parameters are those of the step before; nothing more is saved.
        """
        saved = time.monotonic()
        last = self.preset.schedule.last_step
        while self.step < last:
            progress = self._step()
            report(progress)
            if progress.step % _LOG_EVERY == 0 or progress.step == last:
                self.run.log(asdict(progress))
            if stop():
                break
            if time.monotonic() - saved > _SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.step < last:
            return False
        save_checkpoint(self.run.folder, self.model, TOKENIZERS[self.preset.tokenizer]())
        return True

    def save(self) -> None:
        """Save the state of the run."""
        self.run.save(self.recipe, self.step, self.seconds, self.model, self.optimizer)

    def _step(self) -> Progress:
        began = time.perf_counter()
        schedule = self.preset.schedule
        limit, rate = length_limit(schedule, self.step), learning_rate(schedule, self.step)
        # A step's data depends on the seed and the step alone.
        batch = copy_batch(
            np.random.default_rng([schedule.seed, self.step]),
            self.preset.model,
            SOURCES[self.preset.tokenizer][self.preset.strings],
            lengths=(schedule.min_length, limit),
            max_turns=schedule.max_turns,
            max_context=schedule.max_context,
            full=schedule.full,
            n_tokens=schedule.batch_tokens,
            max_strings=schedule.max_strings,
            max_offset=schedule.max_offset,
            corruption=schedule.corruption,
            recall=schedule.recall,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        logits = self.model(batch.token_ids, batch.offsets)
        wanted = batch.targets != IGNORED
        logits, targets = logits[wanted], batch.targets[wanted]
        loss = nn.functional.cross_entropy(logits, targets)
        self.optimizer.zero_grad()
        loss.backward()
        gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip_norm)
        if not (loss.isfinite() and gradient_norm.isfinite()):
            raise DivergedError(
                f"step {self.step + 1}: loss {loss.item()}, gradient norm {gradient_norm.item()}; "
                "train with a lower learning_rate or more warmup_steps"
            )
        self.optimizer.step()
        right = (logits.argmax(-1) == targets).double().mean()
        took = time.perf_counter() - began
        self.step += 1
        self.seconds += took
        return Progress(
            step=self.step,
            loss=loss.item(),
            accuracy=right.item(),
            tokens_per_second=batch.token_ids.numel() / took,
            length_limit=limit,
            learning_rate=rate,
            gradient_norm=gradient_norm.item(),
            seconds=self.seconds,
        )


def length_limit(schedule: Schedule, step: int) -> int:
    """Longest string that a step may draw.

    `first_length + s · (max_length - first_length)`, rounded, where s goes from 0 to 1 linearly
    over a share `growth` of the run that begins after its first tenth:
    `s = (step / steps - 0.1) / growth`, kept within 0 and 1. Without growth, `max_length` always.

    Args:
        schedule: of the run.
        step: steps done before this one, 0 for the first.
    """
    grown = step / schedule.steps - 0.1
    share = 1.0 if schedule.growth == 0 else min(1.0, max(0.0, grown / schedule.growth))
    return round(schedule.first_length + share * (schedule.max_length - schedule.first_length))


def learning_rate(schedule: Schedule, step: int) -> float:
    """Learning rate of a step: linear warm-up times a cosine.

    `learning_rate · min(1, (step + 1) / warmup_steps) · (f + (1 - f) · c)` with `f = final_ratio`
    and `c = (1 + cos(π · step / steps)) / 2`.

    Args:
        schedule: of the run.
        step: steps done before this one, 0 for the first.
    """
    warm = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / schedule.steps))
    decay = schedule.final_ratio + (1 - schedule.final_ratio) * cosine
    return schedule.learning_rate * warm * decay
