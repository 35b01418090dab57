"""`GET /health`, `/health/live` and `/health/ready`."""

from fastapi import APIRouter, Response

from causalrn.server.api.dependencies import EnginesDependency, SessionsDependency
from causalrn.server.api.openapi import SESSION_ERRORS, describe_errors
from causalrn.server.api.schemas.health import LiveResponse, ReadyResponse
from causalrn.server.errors import (
    NotReadyError,
    ShuttingDownError,
    StartingError,
    StoreUnavailableError,
)

router = APIRouter(tags=["health"])

_NOT_READY = describe_errors(
    {
        NotReadyError: (
            "the engine of copy-bytes has work, but made no step for 12 s",
            None,
        ),
        StartingError: ("the server is starting: loading", None),
        ShuttingDownError: ("the server is shutting down", None),
        StoreUnavailableError: SESSION_ERRORS[StoreUnavailableError],
    }
)


@router.get("/health/live", summary="Does the process answer?")
async def live(response: Response) -> LiveResponse:
    """Answer 200 as long as the process answers at all."""
    response.headers["cache-control"] = "no-store"
    return LiveResponse()


@router.get("/health/ready", summary="Is it ready for requests?", responses=_NOT_READY)
@router.get("/health", summary="The same as /health/ready", responses=_NOT_READY)
async def ready(
    engines: EnginesDependency, sessions: SessionsDependency, response: Response
) -> ReadyResponse:
    """Answer 200 while the server is up, and all engines and the session store work.

    Otherwise answer 503. Each model has an engine of its own; one may be stuck or dead.
    """
    engines.check_ready()
    sessions.check_ready()
    response.headers["cache-control"] = "no-store"
    usages = [engine.usage for engine in engines]
    return ReadyResponse(
        running=sum(usage.running for usage in usages),
        waiting=sum(usage.waiting for usage in usages),
        pages_used=sum(usage.pages_used for usage in usages),
        pages_total=sum(engine.pool_pages for engine in engines),
    )
