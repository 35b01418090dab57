"""`/sessions`: make, look at, fork and delete."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from causalrn.server.api.accounts import AccountDependency
from causalrn.server.api.dependencies import RootPath, SessionId, SessionsDependency
from causalrn.server.api.json_route import OptionalJsonRoute
from causalrn.server.api.openapi import (
    BODY_ERRORS,
    MODEL_ERRORS,
    SESSION_ERRORS,
    Examples,
    describe_errors,
)
from causalrn.server.api.schemas.sessions import (
    MAX_PAGE,
    CreateSessionRequest,
    ForkSessionRequest,
    Session,
    SessionList,
)
from causalrn.server.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    ServiceError,
    SessionBusyError,
    SessionDamagedError,
    SessionNotFoundError,
    StoreUnavailableError,
    TooManySessionsError,
)
from causalrn.server.sessions.session_info import SessionInfo

router = APIRouter(route_class=OptionalJsonRoute, tags=["sessions"])

_BODY_ERRORS: Examples = BODY_ERRORS | {
    InvalidRequestError: ("ttl_seconds: input should be greater than 0", "ttl_seconds"),
}


def _errors(*errors: type[ServiceError]) -> dict[int | str, Any]:
    known = SESSION_ERRORS | _BODY_ERRORS | MODEL_ERRORS
    return describe_errors({error: known[error] for error in errors})


class _Page(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="The most sessions to list.")
    after: str | None = Field(
        default=None,
        max_length=64,
        description="List only sessions made after the one with this id.",
    )


class _Include(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include: Literal["token_ids"] | None = Field(
        default=None, description="`token_ids`: also send the log itself."
    )


@router.post(
    "/sessions",
    status_code=201,
    summary="Make a session",
    responses=_errors(
        *_BODY_ERRORS, ModelNotFoundError, TooManySessionsError, StoreUnavailableError
    ),
)
async def create(
    sessions: SessionsDependency,
    account: AccountDependency,
    root_path: RootPath,
    response: Response,
    body: Annotated[CreateSessionRequest | None, Body()] = None,
) -> Session:
    """Make an empty session."""
    body = body or CreateSessionRequest()
    info = await sessions.create(account, body.ttl_seconds, body.model)
    return _made(info, root_path, response)


@router.get(
    "/sessions",
    summary="List sessions",
    responses=_errors(InvalidRequestError, StoreUnavailableError),
)
async def list_sessions(
    page: Annotated[_Page, Query()],
    sessions: SessionsDependency,
    account: AccountDependency,
    response: Response,
) -> SessionList:
    """List sessions in the order in which they were made, page by page."""
    response.headers["cache-control"] = "no-store"
    found = await sessions.page(account, page.after, page.limit + 1)
    shown = [describe(info) for info in found[: page.limit]]
    return SessionList(sessions=shown, next=shown[-1].id if len(found) > page.limit else None)


@router.get(
    "/sessions/{session_id}",
    summary="Look at a session",
    responses=_errors(
        InvalidRequestError, SessionNotFoundError, SessionDamagedError, StoreUnavailableError
    ),
)
async def get(
    session_id: SessionId,
    query: Annotated[_Include, Query()],
    sessions: SessionsDependency,
    account: AccountDependency,
    response: Response,
) -> Session:
    """Say what is known of a session, and how much of it is in the pool."""
    response.headers["cache-control"] = "no-store"
    info = await sessions.get(account, session_id, with_tokens=query.include is not None)
    return describe(info)


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="Delete a session",
    responses=_errors(InvalidRequestError, SessionNotFoundError, StoreUnavailableError),
)
async def delete(
    session_id: SessionId, sessions: SessionsDependency, account: AccountDependency
) -> None:
    """Delete a session, and free its memory. A request that is using it ends with an error."""
    await sessions.delete(account, session_id)


@router.post(
    "/sessions/{session_id}/fork",
    status_code=201,
    summary="Fork a session",
    responses=_errors(
        *_BODY_ERRORS,
        SessionNotFoundError,
        SessionBusyError,
        SessionDamagedError,
        TooManySessionsError,
        StoreUnavailableError,
    ),
)
async def fork(
    session_id: SessionId,
    sessions: SessionsDependency,
    account: AccountDependency,
    root_path: RootPath,
    response: Response,
    body: Annotated[ForkSessionRequest | None, Body()] = None,
) -> Session:
    """Make a session that continues from where another is, and shares its memory."""
    info = await sessions.fork(account, session_id, body.ttl_seconds if body else None)
    return _made(info, root_path, response)


def describe(info: SessionInfo) -> Session:
    """A session as JSON."""
    record, use = info.record, info.use
    return Session(
        id=record.id,
        model=record.model,
        fingerprint=record.fingerprint,
        n_tokens=record.n_tokens,
        state="warm" if use.is_warm else "cold",
        busy=record.busy,
        pool_tokens=use.n_tokens,
        pool_bytes=info.pool_bytes,
        pages_own=use.pages_own,
        pages_shared=use.pages_shared,
        created_at=record.created_at,
        used_at=record.used_at,
        expires_at=record.expires_at,
        age_seconds=max(0.0, time.time() - record.created_at),
        ttl_seconds=record.ttl,
        token_ids=info.token_ids,
    )


def _made(info: SessionInfo, root_path: str, response: Response) -> Session:
    response.headers["location"] = f"{root_path}/sessions/{info.record.id}"
    response.headers["cache-control"] = "no-store"
    return describe(info)
