"""A field that says how tokens are chosen has one definition, from the wire to the sampler."""

import importlib.util
import sys
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from causalrn.model import sampling
from causalrn.model.sampling import SamplingParams
from causalrn.server.api.schemas import generation_fields
from causalrn.server.api.schemas.completions import CompletionRequest
from causalrn.server.api.schemas.generate import GenerateRequest
from causalrn.server.api.schemas.generation_fields import Source

ASKED: dict[str, Any] = {
    "temperature": 0.5,
    "top_k": 3,
    "top_p": 0.25,
    "min_p": 0.125,
    "seed": 7,
    "logit_bias": {"1": 2.0},
    "presence_penalty": -1.5,
    "frequency_penalty": 0.75,
    "repetition_penalty": 1.25,
}


@pytest.mark.parametrize("request_class", [GenerateRequest, CompletionRequest])
def test_every_field_of_a_request_reaches_the_sampler(
    request_class: type[GenerateRequest | CompletionRequest],
) -> None:
    assert ASKED.keys() == SamplingParams.model_fields.keys()
    request = request_class.model_validate({"prompt": "hi", **ASKED})
    (source,) = request.sources()
    wanted = SamplingParams(**(ASKED | {"logit_bias": {1: 2.0}}))
    assert request.params(source).sampling == wanted
    # Every value differs from its default.
    assert wanted.model_dump(exclude_defaults=True) == wanted.model_dump()


@pytest.mark.parametrize("request_class", [GenerateRequest, CompletionRequest])
def test_the_document_has_the_bounds_of_the_definition(request_class: type[BaseModel]) -> None:
    own = SamplingParams.model_json_schema()["properties"]
    documented = request_class.model_json_schema()["properties"]
    for name, field in own.items():
        shown = documented[name]
        one_of = shown.get("anyOf", [shown])
        wanted = field.get("anyOf", [field])[0]
        for bound in wanted.keys() - {"title", "description", "default"}:
            assert one_of[0][bound] == wanted[bound], (name, bound)
        assert shown["description"] == field["description"]


def test_a_new_field_is_on_the_wire_and_in_the_engine_without_more_ado(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wider(SamplingParams):
        typical_p: float = Field(default=1.0, gt=0, le=1, description="Draw what is typical.")

    monkeypatch.setattr(sampling, "SamplingParams", Wider)
    spec = importlib.util.find_spec(generation_fields.__name__)
    assert spec is not None
    assert spec.loader is not None
    anew = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, anew)
    spec.loader.exec_module(anew)

    class Request(anew.GenerationFields):  # type: ignore[misc, name-defined]
        def sources(self) -> list[Source]:
            return [Source("prompt", "hi", "copy")]

    request = Request.model_validate({"typical_p": 0.5, "seed": 1})
    assert request.params(request.sources()[0]).sampling == Wider(typical_p=0.5, seed=1)
    shown = Request.model_json_schema()["properties"]["typical_p"]
    assert (shown["exclusiveMinimum"], shown["maximum"], shown["default"]) == (0, 1, 1.0)
    with pytest.raises(ValidationError, match="typical_p"):
        Request.model_validate({"typical_p": 0})
