"""`GET /health`, `/health/live` and `/health/ready`."""

from fastapi import APIRouter, Response

from server.dependencies import EngineDependency
from server.errors import NotReadyError, ShuttingDownError
from server.openapi import describe_errors
from server.schemas import LiveResponse, ReadyResponse

router = APIRouter(tags=["health"])

_NOT_READY = describe_errors(
    {
        NotReadyError: ("the engine has work, but made no step for 12 s", None),
        ShuttingDownError: ("the server is shutting down", None),
    }
)


@router.get("/health/live", summary="Does the process answer?")
async def live(response: Response) -> LiveResponse:
    """Answer 200 as long as the process answers at all."""
    response.headers["cache-control"] = "no-store"
    return LiveResponse()


@router.get("/health/ready", summary="Is it ready for requests?", responses=_NOT_READY)
@router.get("/health", summary="The same as /health/ready", responses=_NOT_READY)
async def ready(engine: EngineDependency, response: Response) -> ReadyResponse:
    """Answer 200 while the engine moves, 503 when it is stuck, dead or about to end."""
    engine.check_ready()
    response.headers["cache-control"] = "no-store"
    usage = engine.usage
    return ReadyResponse(
        running=usage.running,
        waiting=usage.waiting,
        pages_used=usage.pages_used,
        pages_total=engine.pool_pages,
    )
