"""How long a token takes, so that progress is shown in shares of the time."""

_DOUBLED = 2048  # tokens in the pool that cost a token as much as everything else


def token_cost(pool: float) -> float:
    """About what a token costs with that many tokens in the pool, relative to one without any."""
    return 1 + pool / _DOUBLED
