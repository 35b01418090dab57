"""How likely a model finds a text: the request, and how to read the answer."""

import math
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, computed_field

from causalrn_client.errors import InvalidRequestError, ResponseFormatError
from causalrn_client.models import Generation
from causalrn_client.requests import Call, generate_call


class ScoredToken(BaseModel):
    """A token of a text that was scored.

    Attributes:
        token_id: The token.
        logprob: The natural logarithm of its probability, given all tokens before it.
        is_likeliest: Whether no other token was likelier. The model would then have written this
            one at temperature 0.
    """

    model_config = ConfigDict(frozen=True)

    token_id: int
    logprob: float
    is_likeliest: bool


class Score(BaseModel):
    """How likely a model finds a completion after a prompt.

    Attributes:
        model: The name of the model.
        tokens: The tokens of the completion.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    tokens: list[ScoredToken]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def logprob(self) -> float:
        """The natural logarithm of the probability of the whole completion."""
        return math.fsum(token.logprob for token in self.tokens)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_likeliest(self) -> bool:
        """Whether each token is the likeliest: at temperature 0 the model would write just this."""
        return all(token.is_likeliest for token in self.tokens)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-probability; infinity if that exceeds 1e308.

        The completion is as surprising as a choice among this many equally likely tokens at each
        position. 1 means certainty.
        """
        try:
            return math.exp(-self.logprob / len(self.tokens))
        except OverflowError:
            return math.inf


def score_pairs(
    pairs: Iterable[tuple[str | Sequence[int], str | Sequence[int]]],
) -> list[tuple[str | Sequence[int], str | Sequence[int]]]:
    """Checks that each is a prompt with its completion.

    Raises:
        InvalidRequestError: One of them is something else.
    """
    try:
        listed = list(pairs)
        if not any(isinstance(pair, str) for pair in listed):
            return [(prompt, completion) for prompt, completion in listed]
    except (TypeError, ValueError):
        pass
    raise InvalidRequestError("pairs must be a list of prompts with their completions")


def score_call(
    context: Sequence[int],
    completion: Sequence[int],
    *,
    model: str | None,
    priority: int | None,
    deadline: float | None,
    request_id: str | None,
) -> Call:
    """Builds the request that asks how likely some token ids are after others.

    Raises:
        InvalidRequestError: The context or the completion is empty.
    """
    if not completion:
        raise InvalidRequestError("the completion must not be empty: there is nothing to score")
    if not context:
        raise InvalidRequestError(
            "the prompt must not be empty: what comes first in a text has no probability"
        )
    return generate_call(
        None,
        stream=False,
        token_ids=[*context, *completion],
        mode="raw",
        max_tokens=0,
        echo=True,
        logprobs=1,
        model=model,
        priority=priority,
        deadline=deadline,
        request_id=request_id,
    )


def read_score(generation: Generation, completion: Sequence[int]) -> Score:
    """Reads the answer to a `score_call`.

    Raises:
        ResponseFormatError: The answer is about other tokens, or lacks their log-probabilities.
    """
    told = (generation.logprobs or [])[-len(completion) :]
    if [token.token_id for token in told] != list(completion):
        raise ResponseFormatError("the answer tells of other tokens than those of the completion")
    tokens = []
    for token in told:
        if token.logprob is None or not token.top:
            raise ResponseFormatError("the answer has no log-probabilities for the completion")
        is_likeliest = token.token_id == token.top[0].token_id
        tokens.append(
            ScoredToken(token_id=token.token_id, logprob=token.logprob, is_likeliest=is_likeliest)
        )
    return Score(model=generation.model, tokens=tokens)
