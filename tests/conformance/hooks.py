"""What Schemathesis must be told of the server that it tests.

It runs in a process of its own, which imports this file. The document says what any server of this
version takes; `GET /info` says what this one does, which serves one model and has settings.
"""

import copy
import os
from typing import Any

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext

_HTTP = httpx.Client(
    base_url=os.environ["CONFORMANCE_URL"],
    headers={"authorization": f"Bearer {os.environ['CONFORMANCE_KEY']}"},
    timeout=20,
)
_LONG = 60.0  # seconds; longer than any scenario


def _get(path: str) -> Any:
    return _HTTP.get(path).raise_for_status().json()


def _snapshot() -> bytes:
    """A session in a file: the only octets that a server takes back."""
    id = _HTTP.post("/sessions").raise_for_status().json()["id"]
    turn = {"session_id": id, "prompt": "saved"}
    _HTTP.post("/generate", json=turn).raise_for_status()
    file = _HTTP.get(f"/sessions/{id}/snapshot").raise_for_status().content
    _HTTP.delete(f"/sessions/{id}").raise_for_status()
    return file


schemathesis.openapi.media_type("application/octet-stream", st.just(_snapshot()))


@schemathesis.hook
def before_load_schema(_: HookContext, document: dict[str, Any]) -> None:
    """Narrow the document down to the limits of this server, and to the ids of its model."""
    info = _get("/info")
    limits, tokenizer = info["limits"], info["tokenizer"]
    schemas = document["components"]["schemas"]
    size = tokenizer["vocab_size"]
    n_content = min(tokenizer[name] for name in ("bos_id", "sep_id", "eos_id"))

    longest = limits["session_ttl_seconds"]
    for name in ("CreateSessionRequest", "ForkSessionRequest"):
        _variant(schemas[name], "ttl_seconds")["maximum"] = longest
    _bound_ids(schemas["DetokenizeRequest"], n_content)
    # The first is the default model, which stays; the second comes and goes.
    names = [model["name"] for model in _get("/admin/models")["models"]][:2]
    for operation in document["paths"]["/admin/models/{name}"].values():
        operation["parameters"][0]["schema"]["enum"] = names
    # Which modes there are is for the model to say; both know how to copy.
    for name in ("GenerateRequest", "CompletionRequest", "TokenizeRequest"):
        _variant(schemas[name], "mode")["enum"] = ["copy", "raw"]
    # Special ids are content in raw mode only; a list of ids is raw unless it says otherwise.
    for name, field, raw in (
        ("GenerateRequest", "token_ids", {"required": ["mode"]}),
        ("CompletionRequest", "prompt", {}),
    ):
        request = schemas[name]
        content = copy.deepcopy(request["properties"][field])
        _bound_ids(content, n_content)
        _bound_ids(request, size)
        is_raw = raw | {"properties": {"mode": {"enum": ["raw", None]}}}
        request["allOf"] = [{"anyOf": [is_raw, {"properties": {field: content}}]}]
        _variant(request, "max_tokens")["maximum"] = limits["max_tokens"]
        # Schemathesis subtracts 1 from the bound 2⁶³, which is a double and stays what it is.
        seed = _variant(request, "seed")
        seed["maximum"] = int(seed.pop("exclusiveMaximum")) - 1
        bias = _variant(request, "logit_bias")
        (value,) = bias["patternProperties"].values()
        bias["patternProperties"] = {f"^({'|'.join(map(str, range(size)))})$": value}


def _variant(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of an optional field where it is not null."""
    field: dict[str, Any] = schema["properties"][name]
    found: list[dict[str, Any]] = [
        one for one in field.get("anyOf", [field]) if one.get("type") != "null"
    ]
    return found[0]


def _bound_ids(schema: Any, n: int) -> None:
    """Let all arrays of integers in a schema be ids below `n`."""
    if isinstance(schema, dict):
        if schema.get("type") == "array" and schema["items"].get("type") == "integer":
            schema["items"] = {"type": "integer", "minimum": 0, "maximum": n - 1}
        for value in schema.values():
            _bound_ids(value, n)
    elif isinstance(schema, list):
        for value in schema:
            _bound_ids(value, n)


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """Leave the server time: no session expires in a scenario, and no request is given up.

    The 504 that a client asked for is right, and looks like a failure of the server.
    """
    body: Any = case.body
    if isinstance(body, dict):
        for name in ("ttl_seconds", "timeout"):
            if _is_number(body.get(name)) and 0 < body[name] < _LONG:
                body[name] = _LONG


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
