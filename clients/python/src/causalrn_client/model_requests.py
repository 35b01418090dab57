"""Requests about models and their tokenizers."""

from collections.abc import Sequence

from causalrn_client.arguments import integers
from causalrn_client.requests import JSON, Call, encode, path_segment, query

_HEADERS = {"Accept": JSON, "Content-Type": JSON}

MODELS = Call("GET", "/v1/models", {"Accept": JSON})
ADMIN_MODELS = Call("GET", "/admin/models", {"Accept": JSON})


def info_call(model: str | None) -> Call:
    """Asks for the description of a model, and the server's limits."""
    return Call("GET", "/info" + query(model=model), {"Accept": JSON})


def tokenizer_info_call(model: str | None) -> Call:
    """Asks for the description of a model's tokenizer."""
    return Call("GET", "/tokenizer_info" + query(model=model), {"Accept": JSON})


def tokenize_call(
    text: str, *, model: str | None, special: bool, mode: str | None, strings: bool
) -> Call:
    """Asks for the token ids of a text.

    Raises:
        InvalidRequestError: The text cannot be sent.
    """
    fields = {
        "prompt": text,
        "model": model,
        "add_special_tokens": special,
        "mode": mode,
        "return_token_strs": strings,
    }
    return Call("POST", "/tokenize", _HEADERS, encode(fields))


def detokenize_call(token_ids: Sequence[int], *, model: str | None) -> Call:
    """Asks for the text of token ids."""
    fields = {"tokens": integers("tokens", token_ids), "model": model}
    return Call("POST", "/detokenize", _HEADERS, encode(fields))


def load_call(name: str) -> Call:
    """Asks the server to load a model. Repeatable: it is loaded once."""
    return Call("PUT", _path(name), {"Accept": JSON})


def unload_call(name: str) -> Call:
    """Asks the server to unload a model."""
    return Call("DELETE", _path(name), {"Accept": JSON})


def _path(name: str) -> str:
    return "/admin/models/" + path_segment(name, "the name of a model")
