"""What Schemathesis must be told of the server that it tests.

It runs in a process of its own, which imports this file. The document says what any server of this
version takes; `GET /info` says what this one does, which serves one model and has settings.
"""

import os
from typing import Any

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis import HookContext

_HTTP = httpx.Client(base_url=os.environ["CONFORMANCE_URL"], timeout=20)
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

    request = schemas["GenerateRequest"]
    _variant(request, "max_tokens")["maximum"] = limits["max_tokens"]
    # Schemathesis subtracts 1 from the bound 2⁶³, which is a double and stays what it is.
    seed = _variant(request, "seed")
    seed["maximum"] = int(seed.pop("exclusiveMaximum")) - 1
    specials = [tokenizer[name] for name in ("bos_id", "sep_id", "eos_id")]
    ids = _variant(request, "token_ids")["items"]
    ids |= {"minimum": 0, "maximum": tokenizer["vocab_size"] - 1}
    # Special ids are content in raw mode only.
    request["allOf"].append(
        {
            "anyOf": [
                {"required": ["mode"], "properties": {"mode": {"const": "raw"}}},
                {"properties": {"token_ids": {"items": {"maximum": min(specials) - 1}}}},
            ]
        }
    )
    longest = limits["session_ttl_seconds"]
    _variant(schemas["CreateSessionRequest"], "ttl_seconds")["maximum"] = longest


def _variant(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of an optional field where it is not null."""
    found: dict[str, Any] = next(
        one for one in schema["properties"][name]["anyOf"] if one.get("type") != "null"
    )
    return found


@schemathesis.hook
def map_body(_: HookContext, body: Any) -> Any:
    """Leave the server time: no session expires in a scenario, and no request is given up."""
    if isinstance(body, dict):
        short = {name for name in ("ttl_seconds", "timeout") if _is_short(body.get(name))}
        return body | dict.fromkeys(short, _LONG)
    return body


def _is_short(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 < value < _LONG
