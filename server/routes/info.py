"""`GET /info`."""

from fastapi import APIRouter

from server import __version__
from server.dependencies import EngineDependency, SessionsDependency
from server.schemas import InfoResponse, Limits, TokenizerInfo

router = APIRouter(tags=["info"])


@router.get("/info", summary="What is served, within which limits")
async def info(engine: EngineDependency, sessions: SessionsDependency) -> InfoResponse:
    """Describe the model, its tokenizer and the limits of this server."""
    model, settings = engine.model, engine.settings
    return InfoResponse(
        model=model.name,
        fingerprint=model.fingerprint,
        version=__version__,
        config=model.config.to_dict(),
        tokenizer=TokenizerInfo.model_validate(model.tokenizer, from_attributes=True),
        limits=Limits(
            max_seq_len=model.config.max_seq_len,
            max_tokens=settings.max_tokens,
            max_body_bytes=settings.max_body_bytes,
            max_running=settings.max_running,
            max_waiting=settings.max_waiting,
            max_batch_tokens=settings.max_batch_tokens,
            pool_tokens=engine.pool_pages * settings.page_size,
            pool_bytes=settings.pool_bytes,
            max_sessions=settings.max_sessions,
            max_session_tokens=min(settings.max_session_tokens, model.config.max_seq_len),
            session_ttl_seconds=settings.session_ttl,
            max_snapshot_bytes=sessions.max_snapshot_bytes,
        ),
    )
