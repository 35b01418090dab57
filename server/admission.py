"""Whether a request can be served at all, and as which tokens."""

from collections.abc import Sequence

from model.tokenizer import TokenizerError
from server.errors import InvalidRequestError, RequestTooLargeError
from server.scheduler import Scheduler
from server.served_model import ServedModel
from server.settings import Settings


class Admission:
    """Turns what a client sends into a wrapped prompt and a number of tokens to generate.

    Args:
        model: whose tokenizer, wrapping and length limit apply.
        settings: with the limits of this server.
        scheduler: which knows what the memory pool can hold.
    """

    def __init__(self, model: ServedModel, settings: Settings, scheduler: Scheduler) -> None:
        self._model = model
        self._settings = settings
        self._scheduler = scheduler
        self._n_wrapping = len(model.wrap([]))
        tokenizer = model.tokenizer
        self._special = {
            tokenizer.bos_id: "BOS", tokenizer.sep_id: "SEP", tokenizer.eos_id: "EOS"
        }  # fmt: skip

    def admit(self, source: str | Sequence[int], max_tokens: int | None) -> tuple[list[int], int]:
        """Check a request.

        Args:
            source: text, or content ids.
            max_tokens: tokens to generate at most; None for what a copy needs, EOS included.

        Returns:
            The wrapped prompt and the tokens to generate at most.

        Raises:
            InvalidRequestError: the text or an id is not the model's, or it is too long for it.
            RequestTooLargeError: the memory pool could never hold it.
        """
        ids: Sequence[int]
        if isinstance(source, str):
            param, ids = "prompt", self._encode(source)
        else:
            param, ids = "token_ids", source
        longest = self._model.config.max_seq_len
        room = longest - self._n_wrapping - len(ids)
        if room < 1:
            raise InvalidRequestError(
                f"{param}: is {len(ids)} tokens long, this model takes at most "
                f"{len(ids) + room - 1}",
                param=param,
            )
        if ids is source:
            self._check(ids)
        prompt = self._model.wrap(ids)
        if max_tokens is None:
            max_tokens = min(len(ids) + 1, room, self._settings.max_tokens)
        elif max_tokens > self._settings.max_tokens:
            raise InvalidRequestError(
                f"max_tokens: must be at most {self._settings.max_tokens}", param="max_tokens"
            )
        elif max_tokens > room:
            raise InvalidRequestError(
                f"max_tokens: must be at most {room} after a prompt of {len(prompt)} tokens; "
                f"the model holds {longest} in all",
                param="max_tokens",
            )
        held = len(prompt) + max_tokens - 1
        if not self._scheduler.fits(held):
            allocator = self._scheduler.allocator
            raise RequestTooLargeError(
                f"the request may hold {held} tokens, the server's memory pool holds "
                f"{allocator.n_pages * allocator.page_size}; shorten it or lower max_tokens",
                param=param,
            )
        return prompt, max_tokens

    def _encode(self, text: str) -> list[int]:
        try:
            return self._model.tokenizer.encode(text)
        except TokenizerError as error:
            raise InvalidRequestError(f"prompt: {error}", param="prompt") from None

    def _check(self, ids: Sequence[int]) -> None:
        vocab_size = self._model.tokenizer.vocab_size
        for index, token_id in enumerate(ids):
            param = f"token_ids[{index}]"
            if not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"{param}: must be between 0 and {vocab_size - 1}", param=param
                )
            if token_id in self._special:
                raise InvalidRequestError(
                    f"{param}: {token_id} is the special id {self._special[token_id]}, which the "
                    "server adds where the model needs it",
                    param=param,
                )
