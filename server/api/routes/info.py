"""`GET /info`."""

from typing import Annotated

from fastapi import APIRouter, Query

from causalrn.model.device import chosen_device
from causalrn.server import __version__
from causalrn.server.api.dependencies import EnginesDependency
from causalrn.server.api.openapi import MODEL_QUERY_ERRORS, describe_errors
from causalrn.server.api.schemas.info import InfoResponse, Limits, TaskInfo, TokenizerInfo
from causalrn.server.api.schemas.model_name import ModelQuery
from causalrn.server.engine.modes import modes
from causalrn.server.sessions.snapshot import largest_size

router = APIRouter(tags=["info"])


@router.get(
    "/info",
    summary="What is served, within which limits",
    responses=describe_errors(MODEL_QUERY_ERRORS),
)
async def info(query: Annotated[ModelQuery, Query()], engines: EnginesDependency) -> InfoResponse:
    """Describe a model, its tokenizer and the limits of this server."""
    engine = engines.get(query.model)
    model, settings = engine.model, engine.settings
    return InfoResponse(
        model=model.name,
        models=[one.model.name for one in engines],
        fingerprint=model.fingerprint,
        version=__version__,
        device=chosen_device(settings.device),
        config=model.config.to_dict(),
        tokenizer=TokenizerInfo.model_validate(model.tokenizer, from_attributes=True),
        task=TaskInfo(name=model.task.name, modes=list(modes(model))),
        limits=Limits(
            max_seq_len=model.config.max_seq_len,
            max_tokens=settings.max_tokens,
            max_body_bytes=settings.max_body_bytes,
            max_running=settings.max_running,
            max_waiting=settings.max_waiting,
            max_batch_tokens=settings.max_batch_tokens,
            pool_tokens=engine.pool_pages * settings.page_size,
            pool_bytes=settings.pool_bytes,
            pool_dtype=settings.pool_dtype,
            max_sessions=settings.max_sessions,
            max_session_tokens=min(settings.max_session_tokens, model.config.max_seq_len),
            session_ttl_seconds=settings.session_ttl,
            max_snapshot_bytes=largest_size(engine.layers, model.config),
        ),
    )
