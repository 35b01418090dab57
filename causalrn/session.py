"""A session: what a model has read and written, turn by turn."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

from causalrn.answer import Answer
from causalrn.model.checkpoint import Checkpoint
from causalrn.model.runner import Runner
from causalrn.server.sessions.snapshot import Snapshot, read_snapshot, write_snapshot
from causalrn.turn import Turn


class Session:
    """A sequence of turns, in each of which a model may go back to all before.

    Args:
        checkpoint: the model.

    Attributes:
        token_ids: all that was read and written, special ids included.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._runner = Runner(checkpoint, [checkpoint.config.max_seq_len])
        self.token_ids: list[int] = []

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Answer:
        """Answer a prompt.

        Args:
            prompt: text, or token ids.
            options: `mode`, what the prompt asks for, by default the first of `Model.modes`;
                `max_tokens` of the answer, by default as many as the mode may need; `stop`, strings
                that end it; `allow_partial`, whether an answer is wanted however little the model
                found; and how tokens are chosen, `temperature`, `seed` and all other fields of
                `causalrn.model.sampling.SamplingParams`.

        Raises:
            TokenizerError: a character has no token.
            InvalidRequestError: the model has no such mode.
            InvalidValueError: an option is unknown, or its value wrong.
            ValueError: there is no room for it.
        """
        turn = self._turn(prompt, options)
        text = "".join(turn.run())
        return turn.answer(text)

    def stream(self, prompt: str | Sequence[int], **options: Any) -> Iterator[str]:
        """The text of an answer, piece by piece; arguments and errors are those of `generate`.

        What is not taken from the iterator is not written.
        """
        return self._turn(prompt, options).run()

    def recall(self, prefix: str, **options: Any) -> Answer:
        """What follows the prefix in the latest passage of the session that has it."""
        return self.generate(prefix, mode="recall", **options)

    def fork(self) -> "Session":
        """Another session that has read and written the same."""
        other = Session(self._checkpoint)
        if self._n_read:
            other._load(self._kept())
        return other

    def snapshot(self) -> bytes:
        """All of it as a file, which servers take as well.

        Raises:
            ValueError: nothing has been read yet.
        """
        if not self._n_read:
            raise ValueError("the session has read nothing yet")
        return b"".join(write_snapshot(self._kept(), self._checkpoint)[1])

    @classmethod
    def restore(cls, checkpoint: Checkpoint, snapshot: bytes) -> Self:
        """The session of a snapshot.

        Raises:
            InvalidSnapshotError: it is no snapshot of a session with these weights.
        """
        session = cls(checkpoint)
        session._load(read_snapshot(snapshot, checkpoint, checkpoint.decoder.specs))
        return session

    @property
    def _n_read(self) -> int:
        """Tokens that the model has read; what it wrote last it reads with the next turn."""
        return self._runner.length(0)

    def _turn(self, prompt: str | Sequence[int], options: dict[str, Any]) -> Turn:
        return Turn(self._checkpoint, self._runner, self.token_ids, prompt, options)

    def _kept(self) -> Snapshot:
        return Snapshot(self.token_ids, self._n_read, self._runner.export(0))

    def _load(self, kept: Snapshot) -> None:
        self._runner.load(0, kept.memory, kept.n_held)
        self.token_ids = list(kept.token_ids)

    def __len__(self) -> int:
        return len(self.token_ids)

    def __repr__(self) -> str:
        return f"<causalrn.Session of {self._checkpoint.name}: {len(self)} tokens>"
