"""Where to draw the line between what was found and what was not, by how well it matched."""

from collections.abc import Sequence

import numpy as np

from causalrn.model.tables import markdown

MOST_REFUSED = 0.001  # share of the right recalls that may be refused
_SHARES = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)


def least_match(hits: Sequence[float], most_refused: float = MOST_REFUSED) -> float:
    """The highest line below which lies at most that share of some matches.

    Args:
        hits: matches of right recalls, at least one.
        most_refused: the share, from 0 to below 1.

    Returns:
        One of the matches; what is less than it is refused.
    """
    return sorted(hits)[int(len(hits) * most_refused)]


def refused(matches: Sequence[float], least: float) -> int:
    """How many of some matches are refused where at least `least` is asked for."""
    return sum(match < least for match in matches)


def distribution(groups: dict[str, Sequence[float]]) -> str:
    """A Markdown table of matches: for each group that has any, which match a share lies below."""
    body = [
        [name, str(len(matches)), *(f"{value:.6f}" for value in _quantiles(matches))]
        for name, matches in groups.items()
        if matches
    ]
    shares = [f"{100 * share:g} %" for share in _SHARES]
    return markdown([["match, from the least to the greatest", "number", *shares], *body])


def _quantiles(matches: Sequence[float]) -> list[float]:
    """One of the matches for each share, without interpolation."""
    found: list[float] = np.quantile(matches, _SHARES, method="inverted_cdf").tolist()
    return found
