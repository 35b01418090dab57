"""The training loop. A step's data depends on seed and step alone, so that runs can be resumed."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from causalrn.model.checkpoint import Checkpoint, save_checkpoint
from causalrn.model.construction import construct
from causalrn.model.decoder import Decoder
from causalrn.model.device import Device, backend_for
from causalrn.model.tasks.base import IGNORED
from causalrn.model.training.batches import Batches
from causalrn.model.training.initial import apply_initial
from causalrn.model.training.preset import OptimizerParams, Preset
from causalrn.model.training.run import Run, RunError

_LOG_EVERY = 20
_SAVE_SECONDS = 60.0
_N_AHEAD = 2  # batches that are drawn while a device computes


class DivergedError(ArithmeticError):
    """The loss or its gradient is no longer a finite number. The message says what to change."""


@dataclass(frozen=True)
class Progress:
    """What a step did.

    Attributes:
        step: steps done.
        loss: mean cross-entropy of this step's targets, in nats.
        scores: what the task says of this step's batch, by name; see `Task.score`.
        notes: what the task noted about the batch itself; see `Batch.notes`.
        tokens_per_second: of this step, counting all tokens that the model read.
        learning_rate: of this step.
        gradient_norm: before clipping.
        seconds: trained so far, earlier parts of a resumed run included.
    """

    step: int
    loss: float
    tokens_per_second: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)

    def to_line(self) -> dict[str, Any]:
        """All numbers side by side, for the log."""
        own = {name: value for name, value in vars(self).items() if name not in ("scores", "notes")}
        return {**self.scores, **self.notes, **own}


class Trainer:
    """Trains one preset in one folder.

    Args:
        preset: the recipe.
        run: where state, log and checkpoint go; an existing state is resumed.
        start: a checkpoint of the same shape to begin with; if left out, random weights, or
            constructed ones if the preset says so.
        save_every: steps after which state and checkpoint are saved each time, in addition to
            about once a minute; None for the latter only.
        device: what to compute on. A run can be resumed on another one, if not to the same bits.
        data: what tells the data of a user from others that the task might read; None for none.

    Attributes:
        step: steps done.
        saved_step: steps done when state and checkpoint were last saved; None if they never were.

    Raises:
        RunError: the folder holds the state of another preset or start, or a checkpoint without a
            state; the start is of another shape; no such decoder can be made; or places cannot be
            matched.
        DeviceError: there is no such device.
    """

    def __init__(
        self,
        preset: Preset,
        run: Run,
        start: Checkpoint | None = None,
        save_every: int | None = None,
        device: Device = "cpu",
        data: str | None = None,
    ) -> None:
        self.preset, self.run = preset, run
        self._save_every = save_every
        optimizer, config = preset.optimizer, preset.blueprint.config
        torch.manual_seed(preset.seed)
        try:
            self.model = Decoder(config, backend_for(device))
        except ValueError as error:
            raise RunError(f"preset {preset.name!r}: model: {error}") from None
        if preset.construction is not None:
            construct(self.model, preset.construction)
        apply_initial(self.model, preset.initial)
        if preset.match_places:
            try:
                self.model.match_places()
            except ValueError as error:
                raise RunError(f"preset {preset.name!r}: match_places: {error}") from None
        backend = self.model.backend
        self.model.to(backend.device)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(optimizer.trains(name))
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._trained,
            lr=optimizer.learning_rate,
            betas=(optimizer.beta1, optimizer.beta2),
            weight_decay=0.0,
            fused=backend.device.type == "cuda",
        )
        # On the CPU, the thread that draws would take time from those that compute.
        n_ahead = _N_AHEAD if backend.trains_as_on_device else 0
        self._batches = Batches(preset, n_ahead, lambda: self.seconds)
        if start is not None:
            if start.config != config:
                raise RunError(f"{start.path} is of another shape than preset {preset.name!r}")
            self.model.load_state_dict(start.decoder.state_dict())
        origin = None if start is None else start.fingerprint
        self.recipe = json.dumps({"preset": preset.to_json(), "start": origin, "data": data})
        self.step, self.seconds = 0, 0.0
        self.saved_step: int | None = None
        if run.exists:
            self.step, self.seconds = run.restore(self.recipe, self.model, self.optimizer)
            self.saved_step = self.step
        else:
            run.begin()

    def train(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> bool:
        """Run to the end, or until `stop()`; either way, save the state and a checkpoint.

        Args:
            report: called after every step.
            stop: asked after every step.

        Returns:
            Whether the run is complete.

        Raises:
            DivergedError: the loss or its gradient is no longer finite. The parameters stay as they
                were before that step, and what was saved last stays on disk.
        """
        saved_at = time.monotonic()
        while not self.is_over:
            progress = self._step()
            report(progress)
            if progress.step % _LOG_EVERY == 0 or self.is_over:
                self.run.log(progress.to_line())
            if stop():
                break
            is_periodic = self._save_every is not None and self.step % self._save_every == 0
            if is_periodic or time.monotonic() - saved_at > _SAVE_SECONDS:
                self.save()
                saved_at = time.monotonic()
        self.save()
        return self.is_over

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        optimizer = self.preset.optimizer
        if optimizer.minutes:
            return optimizer.share(self.step, self.seconds)
        return self.step / optimizer.last_step

    @property
    def is_over(self) -> bool:
        """Whether all of the run is done."""
        return self.preset.optimizer.is_over(self.step, self.seconds)

    def checkpoint(self) -> Checkpoint:
        """The model as it is now, to be asked; on the CPU, wherever it is trained."""
        blueprint, served = self.preset.blueprint, self.model
        if served.backend.trains_as_on_device:  # which does not serve every mixer that it trains
            served = Decoder(blueprint.config)
            served.load_state_dict(self.model.state_dict())
        return Checkpoint(
            self.preset.name, self.run.folder, blueprint.config, blueprint.tokenizer,
            blueprint.task, served, "0" * 64,
        )  # fmt: skip

    def save(self) -> None:
        """Save the state of the run, and a checkpoint of its model as it is now."""
        self.run.save(self.recipe, self.step, self.seconds, self.model, self.optimizer)
        blueprint = self.preset.blueprint
        save_checkpoint(self.run.folder, self.model, blueprint.tokenizer, blueprint.task)
        self.saved_step = self.step

    def _step(self) -> Progress:
        began = time.perf_counter()
        task, optimizer = self.preset.blueprint.task, self.preset.optimizer
        rate = learning_rate(optimizer, self.step, self.seconds)
        batch = self._batches.of_step(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        logits = self.model(batch.token_ids, batch.offsets)
        batch = batch.to(logits.device)
        wanted = batch.targets != IGNORED
        loss = nn.functional.cross_entropy(logits[wanted], batch.targets[wanted])
        self.optimizer.zero_grad()
        loss.backward()
        gradient_norm = nn.utils.clip_grad_norm_(self._trained, optimizer.clip_norm)
        if not (loss.isfinite() and gradient_norm.isfinite()):
            raise DivergedError(
                f"step {self.step + 1}: loss {loss.item()}, gradient norm {gradient_norm.item()}; "
                "train with a lower learning_rate or more warmup_steps"
            )
        self.optimizer.step()
        scores = task.score(logits.detach(), batch)
        took = time.perf_counter() - began
        self.step += 1
        self.seconds += took
        return Progress(
            step=self.step,
            loss=loss.item(),
            tokens_per_second=batch.token_ids.numel() / took,
            learning_rate=rate,
            gradient_norm=gradient_norm.item(),
            seconds=self.seconds,
            scores=scores,
            notes=batch.notes,
        )


def learning_rate(optimizer: OptimizerParams, step: int, seconds: float = 0.0) -> float:
    """Learning rate of a step: linear warm-up times a cosine.

    `learning_rate · min(1, (step + 1) / warmup_steps) · (f + (1 - f) · c)` with `f = final_ratio`
    and `c = (1 + cos(π · share)) / 2`, where the share is that of the run that is done.

    Args:
        optimizer: of the run.
        step: steps done before this one, 0 for the first.
        seconds: time trained before, which counts in a run that goes by time.
    """
    warm = min(1.0, (step + 1) / max(1, optimizer.warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * optimizer.share(step, seconds)))
    decay = optimizer.final_ratio + (1 - optimizer.final_ratio) * cosine
    return optimizer.learning_rate * warm * decay
