"""`/tokenize`, `/detokenize` and `/tokenizer_info`: between text and ids.

A megabyte of text takes a moment, so the first two run beside the event loop.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from causalrn.model.tokenizers.base import TokenizerError, special_tokens
from causalrn.server.api.dependencies import EnginesDependency
from causalrn.server.api.json_route import JsonRoute
from causalrn.server.api.openapi import MODEL_QUERY_ERRORS, PROMPT_ERRORS, describe_errors
from causalrn.server.api.schemas.model_name import ModelQuery
from causalrn.server.api.schemas.tokenizer import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizerDescription,
    TokenizeRequest,
    TokenizeResponse,
)
from causalrn.server.engine.modes import RAW, choose_mode, frame
from causalrn.server.errors import InvalidRequestError
from causalrn.server.http.compact_json import compact_json_in_pieces

router = APIRouter(route_class=JsonRoute, tags=["tokenizer"])


def _errors(message: str, param: str) -> dict[int | str, Any]:
    return describe_errors(PROMPT_ERRORS | {InvalidRequestError: (message, param)})


@router.post(
    "/tokenize",
    summary="Text to ids",
    response_model=TokenizeResponse,
    responses=_errors("prompt: input should be a valid string", "prompt"),
)
def tokenize(body: TokenizeRequest, engines: EnginesDependency) -> Response:
    """Say which ids a text becomes, by default with the special ids that the model needs."""
    model = engines.get(body.model).model
    config, tokenizer = model.config, model.tokenizer
    named = {name: token_id for token_id, name in special_tokens(tokenizer).items()}
    if not body.add_special_tokens and body.prompt in named:
        tokens = [named[body.prompt]]
    else:
        try:
            tokens = tokenizer.encode(body.prompt)
        except TokenizerError as error:
            raise InvalidRequestError(f"prompt: {error}", param="prompt") from None
        mode = choose_mode(model, body.mode)
        tokens = frame(model, tokens, mode if body.add_special_tokens else RAW)
    if body.return_token_strs and len(tokens) > config.max_seq_len:
        raise InvalidRequestError(
            f"return_token_strs: there are {len(tokens)} tokens, but it works only for as many as "
            f"the model takes, {config.max_seq_len}",
            param="return_token_strs",
        )
    strings = None
    if body.return_token_strs:
        strings = [tokenizer.token(token_id) for token_id in tokens]
    return _answer(
        {
            "count": len(tokens),
            "max_model_len": config.max_seq_len,
            "tokens": tokens,
            "token_strs": strings,
        }
    )


@router.post(
    "/detokenize",
    summary="Ids to text",
    response_model=DetokenizeResponse,
    responses=_errors("tokens[0]: must be between 0 and 258", "tokens[0]"),
)
def detokenize(body: DetokenizeRequest, engines: EnginesDependency) -> Response:
    """Say which text some ids stand for."""
    tokenizer = engines.get(body.model).model.tokenizer
    specials = special_tokens(tokenizer)
    for place, token_id in enumerate(body.tokens):
        if not 0 <= token_id < tokenizer.vocab_size:
            reason = f"must be between 0 and {tokenizer.vocab_size - 1}"
        elif token_id in specials:
            reason = f"{token_id} is the special id {specials[token_id]}, which has no text"
        else:
            continue
        param = f"tokens[{place}]"
        raise InvalidRequestError(f"{param}: {reason}", param=param)
    return _answer({"prompt": tokenizer.decode(body.tokens)})


@router.get(
    "/tokenizer_info",
    summary="The tokenizer of a model",
    responses=describe_errors(MODEL_QUERY_ERRORS),
)
async def tokenizer_info(
    query: Annotated[ModelQuery, Query()], engines: EnginesDependency
) -> TokenizerDescription:
    """Describe the tokenizer of a model, with what its special ids are called."""
    model = engines.get(query.model).model
    tokenizer = model.tokenizer
    names = special_tokens(tokenizer)
    return TokenizerDescription(
        model=model.name,
        tokenizer_class=tokenizer.name,
        vocab_size=tokenizer.vocab_size,
        model_max_length=model.config.max_seq_len,
        bos_token=names[tokenizer.bos_id],
        bos_token_id=tokenizer.bos_id,
        sep_token=names[tokenizer.sep_id],
        sep_token_id=tokenizer.sep_id,
        eos_token=names[tokenizer.eos_id],
        eos_token_id=tokenizer.eos_id,
        pad_token=None,
        chat_template=None,
    )


def _answer(content: dict[str, Any]) -> Response:
    return Response(compact_json_in_pieces(content), media_type="application/json")
