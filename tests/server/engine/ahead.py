"""For tests of steps that run ahead: a backend that does so, and a record of what is read when."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrn.model.backends.base import Parts
from causalrn.model.backends.cpu import CpuBackend
from causalrn.model.decoder import Decoder
from causalrn.model.draws import Draw, RowDraw
from causalrn.model.predictions import Found, Predictions
from causalrn.model.state import DecoderState, RaggedBatch


class AheadBackend(CpuBackend):
    """The CPU, with the manners of a device: it draws, and takes tokens that nobody has read."""

    samples = True
    runs_ahead = True

    def __init__(self) -> None:
        self._found = np.empty(0, np.int64)

    def extend(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw] = (),
    ) -> Predictions:
        ids = batch.token_ids
        if ids.min() < 0:
            taken = self._found[np.where(ids < 0, ~ids, 0)].clip(0)
            batch = replace(batch, token_ids=np.where(ids < 0, taken, ids))
        found = super().extend(parts, batch, state, rows)
        logits = found.logits.numpy()
        chosen = np.array([_choose(one.draw, logits[one.row]) for one in draws], np.int64)
        self._found = np.concatenate([found.likeliest, chosen])
        return Predictions(found.computed, lambda: (found.likeliest, chosen))


def _choose(draw: Draw, logits: NDArray[np.float32]) -> int:
    if not np.isfinite(logits).all():
        return -1
    changed = logits.astype(np.float64)
    if draw.changes is not None:
        changed = draw.changes.apply(logits)
    if draw.temperature:
        noise = np.random.default_rng([draw.key, draw.number]).gumbel(size=len(changed))
        changed = changed / draw.temperature + noise
    return int(changed.argmax())


class Record:
    """What is given to a decoder, and which of it is waited for, in this order.

    Attributes:
        calls: `+n` when step n is given to the decoder, from 1, `-n` when somebody waits for it.
        error: raised by whoever waits next, as by a device that fails.
    """

    def __init__(self, decoder: Decoder, patch: Any) -> None:
        self.calls: list[int] = []
        self.error: Exception | None = None
        self._extend = decoder.extend
        patch.setattr(decoder, "extend", self._recorded)

    def _recorded(self, *args: Any, **kwargs: Any) -> Predictions:
        number = max(self.calls, default=0) + 1
        self.calls.append(number)
        found = self._extend(*args, **kwargs)

        def bring() -> Found:
            self.calls.append(-number)
            if self.error is not None:
                error, self.error = self.error, None
                raise error
            return found.bring()

        return replace(found, bring=bring)

    @property
    def n_ahead(self) -> int:
        """Steps that were given to the decoder before the one before them was waited for."""
        return sum(
            one > 0 and -(one - 1) not in self.calls[:place] for place, one in enumerate(self.calls)
        ) - (1 in self.calls)
