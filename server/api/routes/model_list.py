"""`GET /v1/models`: what is served, as OpenAI's API lists it."""

from fastapi import APIRouter

from causalrn.server.api.dependencies import EnginesDependency
from causalrn.server.api.openapi import MODEL_ERRORS, describe_errors
from causalrn.server.api.schemas.model_list import Model, ModelList
from causalrn.server.engine.engine import Engine

router = APIRouter(prefix="/v1", tags=["openai"])


@router.get("/models", summary="List models")
async def list_models(engines: EnginesDependency) -> ModelList:
    """List the models that are served."""
    return ModelList(data=[_describe(engine) for engine in engines])


@router.get(
    "/models/{name}",
    summary="Look at a model",
    responses=describe_errors(MODEL_ERRORS, openai=True),
)
async def get_model(name: str, engines: EnginesDependency) -> Model:
    """Describe a model that is served."""
    return _describe(engines.get(name))


def _describe(engine: Engine) -> Model:
    model = engine.model
    return Model(
        id=model.name,
        created=engine.created,
        max_model_len=model.config.max_seq_len,
        fingerprint=model.fingerprint,
    )
