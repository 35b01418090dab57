"""`/admin/models`: load and unload checkpoints while the server runs."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from causalrn.server.api.accounts import require_admin
from causalrn.server.api.dependencies import EnginesDependency
from causalrn.server.api.openapi import MODEL_ERRORS, describe_errors
from causalrn.server.api.schemas.admin import ModelEntries, ModelEntry
from causalrn.server.errors import (
    DefaultModelError,
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
    ShuttingDownError,
)

router = APIRouter(tags=["admin"], dependencies=[Depends(require_admin)])

_Name = Annotated[str, Path(max_length=255, description="The name of the checkpoint's folder.")]
_TOO_LONG = ("name: string should have at most 255 characters", "name")
_LOADED: dict[int | str, Any] = {
    200: {"description": "It was served already."},
    201: {"model": ModelEntry, "description": "It is served from now on."},
}
_LOAD_ERRORS = describe_errors(
    {
        ModelNotFoundError: (
            "there is no checkpoint 'copy-all' to load; there are copy-az, copy-bytes",
            None,
        ),
        ModelLoadError: (
            "copy-az cannot be served: checkpoints/copy-az/model.safetensors: truncated or "
            "malformed: incomplete metadata, file not fully covered",
            None,
        ),
        InvalidRequestError: _TOO_LONG,
        ShuttingDownError: ("the server is shutting down", None),
    }
)
_UNLOAD_ERRORS = describe_errors(
    MODEL_ERRORS
    | {
        DefaultModelError: (
            "copy-bytes is the default model, which is served as long as the server runs",
            None,
        ),
        InvalidRequestError: _TOO_LONG,
    }
)


@router.get("/admin/models", summary="List checkpoints")
async def list_models(engines: EnginesDependency, response: Response) -> ModelEntries:
    """List the models that are served, and the checkpoints that could be."""
    response.headers["cache-control"] = "no-store"
    infos = await engines.overview()
    return ModelEntries(models=[ModelEntry.model_validate(info) for info in infos])


@router.put("/admin/models/{name}", summary="Load a checkpoint", responses=_LOADED | _LOAD_ERRORS)
async def load(name: _Name, engines: EnginesDependency, response: Response) -> ModelEntry:
    """Load a checkpoint of the server's model folder, and serve it; other models stay available."""
    info, is_new = await engines.load(name)
    response.status_code = 201 if is_new else 200
    response.headers["cache-control"] = "no-store"
    return ModelEntry.model_validate(info)


@router.delete(
    "/admin/models/{name}", status_code=204, summary="Unload a model", responses=_UNLOAD_ERRORS
)
async def unload(name: _Name, engines: EnginesDependency) -> None:
    """Stop serving a model, and free its memory.

    New requests for it are refused at once; running ones have some time to finish. Its sessions
    stay, and can go on when it is loaded again.
    """
    await engines.unload(name)
