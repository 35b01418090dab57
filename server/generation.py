"""One request in the engine: its sequence, and how logits become deltas."""

import logging
import time
from collections.abc import Sequence as Strings

import numpy as np
from numpy.typing import NDArray

from model.sampling import Sampler, SamplingParams
from model.tokenizer import Tokenizer
from server.sequence import Sequence
from server.stop_strings import StopStrings
from server.token_stream import Delta

logger = logging.getLogger(__name__)


class Generation:
    """Samples the tokens of a sequence and turns them into text.

    Args:
        sequence: with the wrapped prompt.
        sampling: how tokens are chosen.
        stop: strings that end the generation.
        tokenizer: of the model.
        request_id: of the HTTP request, for the log.
    """

    def __init__(
        self,
        sequence: Sequence,
        sampling: SamplingParams,
        stop: Strings[str],
        tokenizer: Tokenizer,
        request_id: str,
    ) -> None:
        self.sequence = sequence
        self._request_id = request_id
        self._eos_id = tokenizer.eos_id
        self._sampler = Sampler(sampling)
        self._decoder = tokenizer.stream_decoder()
        self._stop = StopStrings(stop)
        self._arrived = time.monotonic()
        self._first_token: float | None = None

    def advance(self, logits: NDArray[np.float32]) -> Delta:
        """Sample the next token from logits `[V]`.

        Raises:
            FloatingPointError: logits that are not numbers.
        """
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model's logits are not finite")
        token_id = self._sampler.sample(logits)
        if self._first_token is None:
            self._first_token = time.monotonic()
        if token_id == self._eos_id:
            return Delta([], self._last_text(""), "stop")
        self.sequence.token_ids.append(token_id)
        text = self._stop.push(self._decoder.push([token_id]))
        is_last = self.sequence.n_generated == self.sequence.max_tokens
        if is_last:
            text = self._last_text(text)
        if self._stop.found:
            return Delta([token_id], text, "stop")
        return Delta([token_id], text, "length" if is_last else None)

    def log_end(self, finish_reason: str) -> None:
        """Write the one line that the log has of every request."""
        ended = time.monotonic()
        first = ended if self._first_token is None else self._first_token
        logger.info(
            "%s %s: prompt %d, generated %d tokens, first %.1f ms, all %.1f ms, request %s",
            self.sequence.id,
            finish_reason,
            self.sequence.n_prompt,
            self.sequence.n_generated,
            1e3 * (first - self._arrived),
            1e3 * (ended - self._arrived),
            self._request_id,
        )

    def _last_text(self, text: str) -> str:
        """`text` and what decoder and stop strings still hold back."""
        text += self._stop.push(self._decoder.flush())
        return text + self._stop.flush()
