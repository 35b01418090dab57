"""Requests about sessions, built the same for the sync and the async client."""

from urllib.parse import quote, urlencode

from causalrn_client.errors import InvalidRequestError
from causalrn_client.requests import JSON, Call, encode
from causalrn_client.upload import Upload

SNAPSHOT = "application/octet-stream"


def create_call(ttl: float | None) -> Call:
    """Asks for a new session; done twice, it makes two."""
    return _making("/sessions", ttl)


def fork_call(session_id: str, ttl: float | None) -> Call:
    """Asks for a copy of a session; done twice, it makes two."""
    return _making(f"{_path(session_id)}/fork", ttl)


def show_call(session_id: str, *, include_token_ids: bool) -> Call:
    """Asks about one session."""
    query = "?include=token_ids" if include_token_ids else ""
    return Call("GET", _path(session_id) + query, {"Accept": JSON})


def list_call(after: str | None, limit: int | None) -> Call:
    """Asks about the sessions whose ids come after one."""
    given = {"limit": limit, "after": after}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return Call("GET", f"/sessions?{query}" if query else "/sessions", {"Accept": JSON})


def delete_call(session_id: str) -> Call:
    """Asks to delete a session."""
    return Call("DELETE", _path(session_id), {"Accept": JSON})


def snapshot_call(session_id: str) -> Call:
    """Asks for the file that a session can be restored from."""
    return Call("GET", f"{_path(session_id)}/snapshot", {"Accept": SNAPSHOT})


def restore_call(session_id: str, upload: Upload) -> Call:
    """Sends such a file."""
    headers = {"Accept": JSON, "Content-Type": SNAPSHOT}
    return Call("PUT", f"{_path(session_id)}/snapshot", headers, upload)


def _making(path: str, ttl: float | None) -> Call:
    headers = {"Accept": JSON, "Content-Type": JSON}
    return Call("POST", path, headers, encode({"ttl_seconds": ttl}), repeatable=False)


def _path(session_id: str) -> str:
    """The path of a session; which ids there are is for the server to say.

    Raises:
        InvalidRequestError: The id would lead elsewhere.
    """
    if session_id in {"", ".", ".."}:
        raise InvalidRequestError(f"not the id of a session: {session_id!r}")
    try:
        return f"/sessions/{quote(session_id, safe='')}"
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"not the id of a session: {session_id!r}") from error
