"""How much storage an engine allocates, and how it is divided."""

from causalrn.model.state import DecoderState
from causalrn.server.engine.kept_states import KeptStates
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.errors import StartupError
from causalrn.server.settings import Settings

_MOST_PAGES_A_STATE = 16  # the most that may have to be computed again to resume


def allocate(model: ServedModel, settings: Settings) -> DecoderState:
    """Storage of at most `pool_bytes`, and of no more than `max_running` sequences can use.

    Raises:
        StartupError: `pool_bytes` is too little for a single page.
    """
    page_size, n_slots = settings.page_size, settings.max_running
    n_before = n_states_before(model, n_slots, settings.n_drafting)
    probe = model.decoder.new_state(n_pages=1, page_size=page_size, n_slots=1)
    every, states = state_every(probe), _bytes_of_states(probe, n_slots, n_before)
    n_pages = n_slots * -(-model.config.max_seq_len // page_size)
    n_pages = min(n_pages, (settings.pool_bytes - states) // bytes_per_page(probe))
    if n_pages < 1:
        raise StartupError(
            f"CAUSALRN_POOL_BYTES is {settings.pool_bytes}, but the states of {n_slots} sequences "
            f"take {states} and a page of the pool {bytes_per_page(probe)}; raise it or lower "
            "CAUSALRN_MAX_RUNNING"
        )
    n_rows = n_pages // every + _n_spare_rows(probe, n_slots) + n_before
    return model.decoder.new_state(
        n_pages=n_pages, page_size=page_size, n_slots=n_slots, n_rows=n_rows
    )


def pool_bytes(
    model: ServedModel, *, page_size: int, n_slots: int, n_pages: int, n_drafting: int = 0
) -> int:
    """The `pool_bytes` with which a pool has so many pages, for so many sequences and drafts."""
    probe = model.decoder.new_state(n_pages=1, page_size=page_size, n_slots=1)
    n_before = n_states_before(model, n_slots, n_drafting)
    return _bytes_of_states(probe, n_slots, n_before) + n_pages * bytes_per_page(probe)


def n_states_before(model: ServedModel, n_slots: int, n_drafting: int) -> int:
    """States that are kept as they were before a step, which may turn out to be in vain.

    Args:
        model: whose steps may run ahead.
        n_slots: sequences that may run at once.
        n_drafting: those of them that may have drafts.
    """
    return n_slots if model.decoder.runs_ahead else n_drafting


def state_every(state: DecoderState) -> int:
    """Pages from one kept state to the next, so that states cost at most as much as the pool."""
    every = -(-state.bytes_per_state // max(1, state.bytes_per_page))
    return min(max(1, every), _MOST_PAGES_A_STATE)


def bytes_per_page(state: DecoderState) -> int:
    """Bytes of one page in all layers, and of its share of the kept states."""
    return state.bytes_per_page + -(-state.bytes_per_state // state_every(state))


def kept_row(state: DecoderState, states: KeptStates, page: int) -> int:
    """The row of the storage where the state at the end of a page is kept; -1 if it is not."""
    row = states.row(page)
    return -1 if row is None else state.row(row)


def _bytes_of_states(state: DecoderState, n_slots: int, n_before: int) -> int:
    return (n_slots + _n_spare_rows(state, n_slots) + n_before) * state.bytes_per_state


def _n_spare_rows(state: DecoderState, n_slots: int) -> int:
    """Extra rows, as prompts and turns of sessions also end between the pages that have one."""
    return 0 if state_every(state) == 1 else n_slots
