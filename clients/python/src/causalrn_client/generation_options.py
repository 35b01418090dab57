"""What can be asked of a generation: the one definition of the fields of a request."""

from collections.abc import Mapping, Sequence
from typing import TypedDict


class SamplingOptions(TypedDict, total=False):
    """How to write an answer; the part of a request that many prompts can share.

    Leave a field out, or pass None, to get the server's default.

    Attributes:
        max_tokens: The most tokens to write. 0 only reads the prompt, and needs `echo` or a
            session.
        allow_partial: Answer a recall even if the model has not found the prompt: with the nearest
            that there is. By default there is no answer then, and `finish_reason` is `not_found`.
        speculate: Whether the server may guess tokens and verify several at once, as it does by
            default. This changes no token, only the time that it takes.
        min_tokens: How many tokens to write before the model or a stop string may end the answer.
        temperature: How freely to draw tokens. 0 always takes the likeliest one.
        top_k: Draw from this many of the likeliest tokens only. 0 draws from all.
        top_p: Draw from the fewest likeliest tokens whose probabilities add up to this.
        min_p: Draw only from tokens at least this fraction as likely as the likeliest one. 0 draws
            from all.
        seed: Makes the draw repeatable. Each of several samples draws differently.
        stop: A text, or several, to stop at. The answer ends just before it.
        ignore_eos: Keep writing after the end-of-sequence token, as if it were any other.
        logit_bias: Numbers from -100 to 100 to add to the logits of these token ids before each
            token is chosen.
        presence_penalty: Subtracted from the logit of every token already written, -2 to 2.
        frequency_penalty: Subtracted from the logit of a token once for each time that it was
            written, -2 to 2.
        repetition_penalty: Above 1, makes tokens less likely that were read or written before: it
            divides their logits if these are positive, and multiplies them if not.
        logprobs: Return the log-probability of every token, and this many of the likeliest
            alternatives for it, 0 to 20. None returns no log-probabilities.
        echo: Start the answer with the prompt; `logprobs` then covers its tokens too. In `raw`
            mode these are all of them, special ones included, and the first one has no
            log-probability.
        priority: From -10 to 10; the server starts requests with a lower number first.
        deadline: Seconds after which the server gives up on the request. The server does the
            counting, and starts again if the request is retried. The server's API calls this
            `timeout`; the client's own `timeout` is something else and applies as well.
    """

    max_tokens: int | None
    allow_partial: bool | None
    speculate: bool | None
    min_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool | None
    logit_bias: Mapping[int, float] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    logprobs: int | None
    echo: bool | None
    priority: int | None
    deadline: float | None


class TurnOptions(SamplingOptions, total=False):
    """What a turn in a session can ask for: the `SamplingOptions`, and these.

    Attributes:
        token_ids: The prompt as token ids, in place of a text. The server adds the special ids
            around it, except in `raw` mode.
        request_id: A name for the request, to find it by in the server's log.
    """

    token_ids: Sequence[int] | None
    request_id: str | None


class BatchOptions(SamplingOptions, total=False):
    """What applies to all prompts of a batch: the `SamplingOptions`, and these.

    Attributes:
        model: The name of the model to use; the client's default if None.
        n: How many samples to write for each prompt. They share the work of reading it.
        mode: What the prompts are; the checkpoint says which modes its model knows. `copy`: texts
            to repeat, the default. `recall`: the first words of a passage that the session has
            read, to continue word for word. `raw`: tokens to continue just as they are, special
            ones included; an empty prompt continues the session from its last token.
    """

    model: str | None
    n: int | None
    mode: str | None


class GenerateOptions(TurnOptions, BatchOptions, total=False):
    """What one generation can ask for: the `TurnOptions`, the `BatchOptions`, and these.

    Attributes:
        session_id: The session to continue. The prompt and the answer are added to it.
        wait_for_session: Wait while another request is using the session, for as long as
            `deadline` allows, rather than raise a `SessionBusyError`.
    """

    session_id: str | None
    wait_for_session: bool | None
