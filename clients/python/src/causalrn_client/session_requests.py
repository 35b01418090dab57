"""Requests about sessions."""

from causalrn_client.requests import JSON, Call, encode, path_segment, query
from causalrn_client.upload import Upload

SNAPSHOT = "application/octet-stream"


def create_call(ttl: float | None, model: str | None) -> Call:
    """Asks for a new session. Not repeatable, because that would make two."""
    return _making("/sessions", {"ttl_seconds": ttl, "model": model})


def fork_call(session_id: str, ttl: float | None) -> Call:
    """Asks for a copy of a session. Not repeatable, because that would make two."""
    return _making(f"{_path(session_id)}/fork", {"ttl_seconds": ttl})


def show_call(session_id: str, *, include_token_ids: bool) -> Call:
    """Asks for the description of a session."""
    asked = query(include="token_ids" if include_token_ids else None)
    return Call("GET", _path(session_id) + asked, {"Accept": JSON})


def list_call(after: str | None, limit: int | None) -> Call:
    """Asks for a page of the list of sessions, from the one after an id."""
    return Call("GET", "/sessions" + query(limit=limit, after=after), {"Accept": JSON})


def delete_call(session_id: str) -> Call:
    """Asks to delete a session."""
    return Call("DELETE", _path(session_id), {"Accept": JSON})


def snapshot_call(session_id: str) -> Call:
    """Asks for a file from which the session can be restored."""
    return Call("GET", f"{_path(session_id)}/snapshot", {"Accept": SNAPSHOT})


def restore_call(session_id: str, upload: Upload) -> Call:
    """Sends a file to restore a session from."""
    headers = {"Accept": JSON, "Content-Type": SNAPSHOT}
    return Call("PUT", f"{_path(session_id)}/snapshot", headers, upload)


def _making(path: str, fields: dict[str, object]) -> Call:
    headers = {"Accept": JSON, "Content-Type": JSON}
    return Call("POST", path, headers, encode(fields), repeatable=False)


def _path(session_id: str) -> str:
    """Returns the path of a session.

    Raises:
        InvalidRequestError: This cannot be the id of a session.
    """
    return "/sessions/" + path_segment(session_id, "the id of a session")
