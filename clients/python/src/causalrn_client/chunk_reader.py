"""The bytes of a streamed generation, read as chunks and added up to the whole."""

from collections.abc import Iterator

from causalrn_client.errors import IncompleteStreamError, ResponseFormatError, StreamError
from causalrn_client.models import Chunk, Generation, Usage
from causalrn_client.responses import parse_object, validate
from causalrn_client.sse import SSEDecoder

_DONE = "[DONE]"


class ChunkReader:
    """Reads one stream; does no input or output of its own.

    Attributes:
        done: Whether the stream said that it is complete; what follows is ignored.
    """

    def __init__(self) -> None:
        self.done = False
        self._events = SSEDecoder()
        self._id = ""
        self._model = ""
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._finish_reason: str | None = None
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Takes the next bytes and yields the chunks that they complete.

        Raises:
            StreamError: The server reports that the generation failed.
            ResponseFormatError: The stream is not what the contract says.
        """
        for event in self._events.feed(data):
            if self.done:
                return
            # As a browser would, leave events of other types to those who asked for them.
            if event.event not in {"message", "error"}:
                continue
            if event.data == _DONE:
                self._finish()
                return
            chunk = _parse_chunk(event.data)
            self._add(chunk)
            yield chunk

    def end(self) -> None:
        """Notes that no more bytes will come.

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
        if not self.done or self._finish_reason is None or self._usage is None:
            raise IncompleteStreamError("the stream failed, or was closed, before it was complete")
        return Generation(
            id=self._id,
            model=self._model,
            text="".join(self._texts),
            token_ids=list(self._token_ids),
            finish_reason=self._finish_reason,
            usage=self._usage,
        )

    def _add(self, chunk: Chunk) -> None:
        self._id = chunk.id
        self._model = chunk.model
        self._texts.append(chunk.text)
        self._token_ids += chunk.token_ids
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage

    def _finish(self) -> None:
        for name, value in (("finish_reason", self._finish_reason), ("usage", self._usage)):
            if value is None:
                raise ResponseFormatError(f"the stream ended without a {name}")
        self.done = True


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
