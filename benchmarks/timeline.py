"""When the tokens of a stream came, and the rates and latencies that follow for many streams."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.figures import percentiles_ms


@dataclass
class Timeline:
    """One stream as its reader saw it, in seconds of one clock.

    Attributes:
        began: when the request was sent.
        arrivals: when tokens came; those that came at one moment are one arrival.
        n_tokens: how many have come so far.
    """

    began: float
    arrivals: list[float] = field(default_factory=list)
    n_tokens: int = 0
    _counts: list[int] = field(default_factory=list)

    def add(self, now: float, n_tokens: int) -> None:
        """Note that tokens came; without tokens there is no arrival."""
        if not n_tokens:
            return
        self.n_tokens += n_tokens
        if self.arrivals and self.arrivals[-1] == now:
            self._counts[-1] += n_tokens
        else:
            self.arrivals.append(now)
            self._counts.append(n_tokens)

    def tokens_between(self, start: float, end: float) -> int:
        """Tokens that came after `start`, until `end`."""
        pairs = zip(self.arrivals, self._counts, strict=True)
        return sum(count for time, count in pairs if start < time <= end)

    def gaps(self, start: float = float("-inf"), end: float = float("inf")) -> list[float]:
        """Seconds from each arrival to the next, for arrivals between the two moments."""
        within = [time for time in self.arrivals if start <= time <= end]
        return [after - before for before, after in pairwise(within)]


def summary(timelines: Sequence[Timeline]) -> dict[str, Any]:
    """Rate and latencies of streams that ran together, from first request to last token."""
    seconds = max(t.arrivals[-1] for t in timelines) - min(t.began for t in timelines)
    n_tokens = sum(t.n_tokens for t in timelines)
    n_arrivals = sum(len(t.arrivals) for t in timelines)
    return {
        "seconds": seconds,
        "tokens_per_second": n_tokens / seconds,
        "ttft_ms": percentiles_ms(t.arrivals[0] - t.began for t in timelines),
        "itl_ms": percentiles_ms(gap for t in timelines for gap in t.gaps()),
        "tokens_per_arrival": n_tokens / n_arrivals,
    }


def while_all_run(timelines: Sequence[Timeline]) -> dict[str, Any]:
    """Rate and gaps while all streams run: from the last one's first token to the first one's end.

    Empty if there is no such time.
    """
    start = max(t.arrivals[0] for t in timelines)
    end = min(t.arrivals[-1] for t in timelines)
    if end <= start:
        return {}
    n_tokens = sum(t.tokens_between(start, end) for t in timelines)
    return {
        "seconds": end - start,
        "tokens_per_second": n_tokens / (end - start),
        "itl_ms": percentiles_ms(gap for t in timelines for gap in t.gaps(start, end)),
    }
