"""Reads a streamed generation from bytes, and joins its chunks sample by sample."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from causalrn_client.errors import IncompleteStreamError, ResponseFormatError, StreamError
from causalrn_client.models import Chunk, Generation, Sample, SessionUsage, TokenLogprob, Usage
from causalrn_client.responses import parse_object, validate
from causalrn_client.sse import SSEDecoder

_DONE = "[DONE]"


class ChunkReader:
    """Reads one stream, without doing any input or output itself.

    Attributes:
        done: Whether the stream has announced its end. Anything after that is ignored.
    """

    def __init__(self) -> None:
        self.done = False
        self._events = SSEDecoder()
        self._id = ""
        self._model = ""
        self._samples: dict[int, _SampleParts] = {}
        self._usage: Usage | None = None
        self._session: SessionUsage | None = None

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Takes the next bytes and yields the chunks that they complete.

        Raises:
            StreamError: The server reports that the generation failed.
            ResponseFormatError: The stream is not one of a CausalRN server.
        """
        for event in self._events.feed(data):
            if self.done:
                return
            # Like a browser, ignore events of types that nobody here listens to.
            if event.event not in {"message", "error"}:
                continue
            if event.data == _DONE:
                self._finish()
                return
            chunk = _parse_chunk(event.data)
            self._add(chunk)
            yield chunk

    def end(self) -> None:
        """Has to be called when the connection ends.

        Raises:
            IncompleteStreamError: The stream is not complete.
        """
        if not self.done:
            raise IncompleteStreamError("the connection ended before the stream was complete")

    def generation(self) -> Generation:
        """Returns the chunks of a complete stream as one generation.

        Raises:
            IncompleteStreamError: The stream failed, or was closed, before it was complete.
        """
        if not self.done or self._usage is None:
            raise IncompleteStreamError("the stream failed, or was closed, before it was complete")
        samples = [self._samples[index].join(index) for index in range(len(self._samples))]
        first = samples[0]
        return Generation(
            id=self._id,
            model=self._model,
            text=first.text,
            token_ids=first.token_ids,
            finish_reason=first.finish_reason,
            match=first.match,
            verified=first.verified,
            usage=self._usage,
            logprobs=first.logprobs,
            samples=samples if len(samples) > 1 else None,
            session=self._session,
        )

    def _add(self, chunk: Chunk) -> None:
        self._id = chunk.id
        self._model = chunk.model
        self._samples.setdefault(chunk.index, _SampleParts()).add(chunk)
        self._usage = chunk.usage or self._usage
        self._session = chunk.session or self._session

    def _finish(self) -> None:
        for index in range(len(self._samples)):  # finds numbers that are left out, too
            if index not in self._samples or not self._samples[index].finish_reason:
                raise ResponseFormatError(
                    f"the stream ended without a finish_reason of sample {index}"
                )
        if self._usage is None:
            raise ResponseFormatError("the stream ended without a usage")
        self.done = True


@dataclass
class _SampleParts:
    """What has arrived of one sample."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    finish_reason: str = ""
    match: float | None = None
    verified: bool | None = None

    def add(self, chunk: Chunk) -> None:
        self.texts.append(chunk.text)
        self.token_ids += chunk.token_ids
        if chunk.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs += chunk.logprobs
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
            self.match, self.verified = chunk.match, chunk.verified

    def join(self, index: int) -> Sample:
        return Sample(
            index=index,
            text="".join(self.texts),
            token_ids=self.token_ids,
            finish_reason=self.finish_reason,
            match=self.match,
            verified=self.verified,
            logprobs=self.logprobs,
        )


def _parse_chunk(data: str) -> Chunk:
    value = parse_object(data)
    error = value.get("error")
    if error is None:
        return validate(Chunk, value)
    if not isinstance(error, dict):
        raise ResponseFormatError(f"an error event without an error object: {data[:200]}")
    error_type, message, param = (error.get(name) for name in ("type", "message", "param"))
    raise StreamError(
        str(error_type or "error"),
        str(message or "the server gave no reason"),
        param if isinstance(param, str) else None,
    )
