"""`GET /metrics`."""

from fastapi import APIRouter, Response

from server.dependencies import EngineDependency
from server.metrics import CONTENT_TYPE

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(engine: EngineDependency) -> Response:
    """Tell what is in use at this moment, and what was done so far."""
    return Response(
        engine.metrics.expose(), media_type=CONTENT_TYPE, headers={"cache-control": "no-store"}
    )
