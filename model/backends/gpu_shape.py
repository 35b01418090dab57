"""What the launches of a step on a device depend on, and the few shapes that all small steps take.

A step that is recorded can be played again only as it was: with as many rows, sequences and pages.
So a small step is filled up to the next larger *bucket*, with rows of a sequence that nobody has,
which has a page and a slot to spare.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from causalrn.model.draws import RowDraw
from causalrn.model.ops.relation.gpu import SEGMENT
from causalrn.model.state import RaggedBatch

MOST_ROWS = 256  # of a bucket: where there are more, kernels take longer than their launches
_FEWEST = 16  # rows of the largest bucket, for the tokens of short prompts and of drafts
_CHANGES = 16  # of logits, for each row of a bucket
_GROWTH = 4  # from the segments of one bucket to those of the next


@dataclass(frozen=True)
class StepShape:
    """Sizes of a step.

    Attributes:
        n_rows: new tokens.
        n_sequences: that they belong to.
        n_wanted: rows whose logits are wanted.
        n_draws: tokens to choose.
        n_changes: of logits, in all draws together.
        n_pages: columns of a block table.
        longest: no sequence has more memories, with this step.
    """

    n_rows: int
    n_sequences: int
    n_wanted: int
    n_draws: int
    n_changes: int
    n_pages: int
    longest: int

    @classmethod
    def of(cls, batch: RaggedBatch, n_wanted: int, draws: Sequence[RowDraw]) -> "StepShape":
        """That of a batch, neither more nor less."""
        ends = batch.context_lens + batch.starts[1:] - batch.starts[:-1]
        return cls(
            n_rows=len(batch.token_ids),
            n_sequences=len(batch.slots),
            n_wanted=n_wanted,
            n_draws=len(draws),
            n_changes=sum(len(one.changes.ids) for _, one in draws if one.changes is not None),
            n_pages=batch.block_tables.shape[1],
            longest=int(ends.max(initial=0)),
        )

    def fits(self, other: "StepShape") -> bool:
        """Whether a step of this shape can be filled up to another one."""
        return (
            self.n_rows <= other.n_rows
            and self.n_sequences <= other.n_sequences
            and self.n_wanted <= other.n_wanted
            and self.n_draws <= other.n_draws
            and self.n_changes <= other.n_changes
            and self.longest <= other.longest
        )


@dataclass(frozen=True)
class Buckets:
    """The buckets of a decoder.

    Attributes:
        most_rows: of a bucket, a power of two.
        longest: memories of a sequence, at most.
        page_size: of the pool.
    """

    most_rows: int
    longest: int
    page_size: int

    @classmethod
    def for_slots(cls, n_slots: int, longest: int, page_size: int) -> "Buckets":
        """Those that let so many sequences decode."""
        rows = 1 << (max(n_slots, _FEWEST) - 1).bit_length()
        return cls(min(rows, MOST_ROWS), max(1, longest), page_size)

    def all(self) -> Iterator[StepShape]:
        """Every bucket, the largest first, so that what it works on has room for all others."""
        segments = [1]
        while segments[-1] * SEGMENT < self.longest:
            segments.append(segments[-1] * _GROWTH)
        n_rows = self.most_rows
        while n_rows:
            for n in reversed(segments):
                yield self._bucket(n_rows, n)
            n_rows //= 2

    def find(self, shape: StepShape) -> StepShape | None:
        """The smallest one that a step can be filled up to; None if there is none."""
        n_rows = 1 << max(0, max(shape.n_rows, shape.n_sequences) - 1).bit_length()
        if n_rows > self.most_rows or shape.longest > self.longest:
            return None
        n_segments = 1
        while n_segments * SEGMENT < shape.longest:
            n_segments *= _GROWTH
        found = self._bucket(n_rows, n_segments)
        return found if shape.fits(found) else None

    def _bucket(self, n_rows: int, n_segments: int) -> StepShape:
        longest = min(n_segments * SEGMENT, self.longest)
        n_pages = -(-longest // self.page_size)
        return StepShape(n_rows, n_rows, n_rows, n_rows, _CHANGES * n_rows, n_pages, longest)
