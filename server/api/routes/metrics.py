"""`GET /metrics`."""

from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Say what is in use at this moment, and what was done so far.

    Most figures are of one model, those of HTTP and of the process of the whole server.
    """
    registry = cast(CollectorRegistry, request.app.state.registry)
    return Response(
        generate_latest(registry),
        media_type=CONTENT_TYPE_PLAIN_0_0_4,
        headers={"cache-control": "no-store"},
    )
