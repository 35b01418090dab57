"""The errors that every store raises, in the same words."""

from causalrn.server.errors import (
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
    TooManySessionsError,
)
from causalrn.server.printable import LONGEST_ECHO, printable


def not_found(id: str) -> SessionNotFoundError:
    """There is no such session."""
    return SessionNotFoundError(f"there is no session '{printable(id, LONGEST_ECHO)}'")


def exists(id: str) -> SessionExistsError:
    """An id is taken."""
    return SessionExistsError(f"there is already a session '{id}'")


def too_many(limit: int, owner: str | None = None) -> TooManySessionsError:
    """There is no room for another session, at all or for one owner."""
    found = f"there are {limit} sessions, and there may be no more"
    if owner is not None:
        found = f"the key '{owner}' has {limit} sessions, and may have no more"
    return TooManySessionsError(f"{found}; delete one, or wait until one expires")


def busy(id: str) -> SessionBusyError:
    """Another request uses the session."""
    return SessionBusyError(
        f"session '{id}' is busy with another request; try again, or send 'wait_for_session': true"
    )


def lost(id: str) -> SessionBusyError:
    """This server does not have the lease of a session, or not any more."""
    return SessionBusyError(f"this request does not have the session '{id}' any more")


def moved(id: str, n_tokens: int, start: int) -> SessionBusyError:
    """A log has another length than the caller thought."""
    return SessionBusyError(
        f"the session '{id}' has {n_tokens} tokens by now, and not {start}: another request "
        "was faster"
    )


def unavailable(reason: str) -> StoreUnavailableError:
    """The store cannot do its work now."""
    return StoreUnavailableError(f"the session store cannot be used now: {reason}")
