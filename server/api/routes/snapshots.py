"""`/sessions/{id}/snapshot`: a session as a file."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from causalrn.server.api.accounts import AccountDependency
from causalrn.server.api.dependencies import RootPath, SessionId, SessionsDependency
from causalrn.server.api.openapi import SESSION_ERRORS, describe_errors
from causalrn.server.api.routes.sessions import describe
from causalrn.server.api.schemas.generation_fields import SESSION_ID
from causalrn.server.api.schemas.sessions import Session
from causalrn.server.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    InvalidSnapshotError,
    OverloadedError,
    RequestTooLargeError,
    SessionBusyError,
    SessionDamagedError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
    StoreUnavailableError,
    TooManySessionsError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from causalrn.server.http import spool
from causalrn.server.http.content_type import content_type
from causalrn.server.sessions.snapshot import write_snapshot

router = APIRouter(tags=["sessions"])

_MEDIA_TYPE = "application/octet-stream"
_FILE = {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_SAVED: dict[int | str, Any] = {200: {"description": "A safetensors file.", "content": _FILE}}
_RESTORED: dict[int | str, Any] = {201: {"model": Session, "description": "A new session."}}
_NO_ROOM = ("the server has no room for a file: No space left on device; try again later", None)
_SAVE_ERRORS = describe_errors(
    {
        InvalidRequestError: (
            "token_ids: is 9000 tokens long, this model takes at most 8192",
            "token_ids",
        ),
        OverloadedError: ("too many requests are waiting; try again later", None),
        UnavailableError: _NO_ROOM,
        RequestTooLargeError: (
            "the request may hold 9000 tokens, the server's memory pool holds 8192; shorten it "
            "or lower max_tokens",
            "token_ids",
        ),
    }
    | {
        error: SESSION_ERRORS[error]
        for error in (
            SessionNotFoundError,
            SessionBusyError,
            SessionEmptyError,
            SessionOfOtherWeightsError,
            SessionDamagedError,
            StoreUnavailableError,
        )
    }
)
_RESTORE_ERRORS = describe_errors(
    {
        BodyTooLargeError: ("the body is larger than the limit of 34000000 bytes", None),
        OverloadedError: ("16 snapshots are being uploaded already; try again later", None),
        UnavailableError: _NO_ROOM,
        UnsupportedMediaTypeError: (f"the body must be sent as '{_MEDIA_TYPE}'", None),
        SessionFullError: ("the snapshot has 9000 tokens, a session may have 8192", None),
        InvalidSnapshotError: (
            "the snapshot was changed or damaged: its digest does not fit",
            None,
        ),
    }
    | {
        error: SESSION_ERRORS[error]
        for error in (SessionBusyError, TooManySessionsError, StoreUnavailableError)
    }
)
_RESTORE_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _FILE}}


@router.get(
    "/sessions/{session_id}/snapshot",
    summary="Save a session",
    response_class=StreamingResponse,
    responses=_SAVED | _SAVE_ERRORS,
)
async def save(
    session_id: SessionId, sessions: SessionsDependency, account: AccountDependency
) -> Response:
    """Send the tokens of a session and its memory as one safetensors file."""
    async with sessions.snapshots.room:
        size, parts = write_snapshot(*await sessions.snapshots.save(account, session_id))
        file = await asyncio.to_thread(spool.write, parts)
    headers = {
        "cache-control": "no-store",
        "content-length": str(size),
        "content-disposition": f'attachment; filename="{session_id}.safetensors"',
    }
    return StreamingResponse(spool.send(file), headers=headers, media_type=_MEDIA_TYPE)


@router.put(
    "/sessions/{session_id}/snapshot",
    summary="Restore a session",
    response_model=Session,
    responses=_RESTORED | _RESTORE_ERRORS,
    openapi_extra=_RESTORE_BODY,
)
async def restore(
    session_id: Annotated[str, Path(pattern=f"^{SESSION_ID}$")],
    request: Request,
    response: Response,
    sessions: SessionsDependency,
    account: AccountDependency,
    root_path: RootPath,
) -> Session:
    """Make a session from a file, or replace an existing one with it."""
    if content_type(request.headers).get_content_type() != _MEDIA_TYPE:
        raise UnsupportedMediaTypeError(f"the body must be sent as '{_MEDIA_TYPE}'")
    snapshots = sessions.snapshots
    with snapshots.upload(), await spool.receive(request, snapshots.max_bytes) as file:
        async with snapshots.room:
            record, is_new = await snapshots.restore(
                account, session_id, await asyncio.to_thread(file.read)
            )
    response.headers["cache-control"] = "no-store"
    if is_new:
        response.status_code = 201
        response.headers["location"] = f"{root_path}/sessions/{session_id}"
    return describe(await sessions.describe(record))
