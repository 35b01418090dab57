"""How much of an engine is in use."""

from causalrn.server.engine.mailbox import Mailbox
from causalrn.server.engine.metrics import Usage
from causalrn.server.engine.scheduler import Scheduler


def measure_usage(scheduler: Scheduler, mail: Mailbox) -> Usage:
    """What is in use at this moment; may be asked for on any thread."""
    return Usage(
        running=len(scheduler.running),
        waiting=len(mail.submitted) + len(scheduler.waiting),
        pages_used=scheduler.pool.allocator.n_used,
        pages_kept=scheduler.pool.allocator.n_kept,
        slots_used=scheduler.n_slots - scheduler.n_free_slots,
        preemptions=scheduler.n_preemptions,
        drafted=scheduler.n_drafted,
        accepted=scheduler.n_accepted,
        prefix_cache_queries=scheduler.pool.cache.stats.queries,
        prefix_cache_hits=scheduler.pool.cache.stats.hits,
        sessions_warm=len(scheduler.pool.sessions),
        session_evictions=scheduler.pool.n_evictions,
    )
