"""Requests about sessions, built the same for the sync and the async client."""

from causalrn_client.requests import JSON, Call, encode, path_segment, query
from causalrn_client.upload import Upload

SNAPSHOT = "application/octet-stream"


def create_call(ttl: float | None, model: str | None) -> Call:
    """Asks for a new session; done twice, it makes two."""
    return _making("/sessions", {"ttl_seconds": ttl, "model": model})


def fork_call(session_id: str, ttl: float | None) -> Call:
    """Asks for a copy of a session; done twice, it makes two."""
    return _making(f"{_path(session_id)}/fork", {"ttl_seconds": ttl})


def show_call(session_id: str, *, include_token_ids: bool) -> Call:
    """Asks about one session."""
    asked = query(include="token_ids" if include_token_ids else None)
    return Call("GET", _path(session_id) + asked, {"Accept": JSON})


def list_call(after: str | None, limit: int | None) -> Call:
    """Asks about the sessions whose ids come after one."""
    return Call("GET", "/sessions" + query(limit=limit, after=after), {"Accept": JSON})


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


def _making(path: str, fields: dict[str, object]) -> Call:
    headers = {"Accept": JSON, "Content-Type": JSON}
    return Call("POST", path, headers, encode(fields), repeatable=False)


def _path(session_id: str) -> str:
    """The path of a session; which ids there are is for the server to say.

    Raises:
        InvalidRequestError: The id would lead elsewhere.
    """
    return "/sessions/" + path_segment(session_id, "the id of a session")
