"""What was said last counts, in the models that are shipped."""

from pathlib import Path

import numpy as np
import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.state import DecoderState, RaggedBatch

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
PAGE, PAGES = 64, 340
AGE = 20_000  # tokens between what was said and the question
N_TIMES = 4


class Session:
    """One sequence of a decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._state: DecoderState = decoder.new_state(n_pages=PAGES, page_size=PAGE, n_slots=1)
        self.length = 0

    def extend(self, ids: list[int]) -> int:
        """Add tokens; the most likely next one."""
        batch = RaggedBatch(
            token_ids=np.array(ids),
            starts=np.array([0, len(ids)]),
            context_lens=np.array([self.length]),
            slots=np.array([0]),
            block_tables=np.arange(PAGES, dtype=np.int32)[None],
        )
        self.length += len(ids)
        found = self._decoder.extend(batch, self._state, np.array([len(ids) - 1]))
        return int(found.likeliest[0])


@pytest.mark.parametrize("name", ["exact-bytes", "exact-bytes-small"])
@pytest.mark.parametrize("one_turn", [False, True])
def test_of_values_told_one_after_another_long_ago_the_last_is_right(
    name: str, one_turn: bool
) -> None:
    checkpoint = load_checkpoint(CHECKPOINTS / name)
    bos, sep = checkpoint.config.bos_id, checkpoint.config.sep_id
    rng = np.random.default_rng(0)
    session = Session(checkpoint.decoder)
    right = {}
    for door in range(12):
        question = b"the code of door %d is " % door
        values = [b"%04d" % value for value in rng.choice(10_000, N_TIMES, replace=False)]
        told = [b"so: " + question + value + b"." for value in values]
        for text in [b" ".join(told)] if one_turn else told:
            session.extend([bos, *text, sep])
        right[question] = values[-1]
    while session.length < AGE:
        session.extend([bos, *rng.integers(0, 256, 500).tolist(), sep])
    for question, value in right.items():
        answer = [session.extend([bos, sep, *question])]
        while len(answer) < len(value):
            answer.append(session.extend(answer[-1:]))
        assert bytes(answer) == value
