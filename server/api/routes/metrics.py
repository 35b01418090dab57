"""`GET /metrics`."""

from fastapi import APIRouter, Response

from server.api.dependencies import EnginesDependency
from server.engine.metrics import CONTENT_TYPE, expose

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(engines: EnginesDependency) -> Response:
    """Tell what is in use at this moment, and what was done so far, of each model."""
    return Response(
        expose(engines.metrics), media_type=CONTENT_TYPE, headers={"cache-control": "no-store"}
    )
