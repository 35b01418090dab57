"""How a log of tokens is stored: in blocks of bytes, with a running checksum beside them."""

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from causalrn.server.errors import SessionDamagedError

BLOCK_TOKENS = 256  # a block stays small enough to be rewritten for every token that it grows by
_TOKEN = np.dtype("<u4")


class LogEnd(NamedTuple):
    """Where a log ends.

    Attributes:
        n_tokens: how many tokens it has.
        crc: CRC-32 of their bytes: four for each token, little-endian.
    """

    n_tokens: int = 0
    crc: int = 0

    def extend(self, token_ids: Sequence[int]) -> "tuple[LogEnd, list[tuple[int, bytes]]]":
        """Add tokens, whose ids are from 0 to 2^32 - 1.

        Returns:
            The new end, and the bytes to add to each block, with the block's number, from 0. The
            first block may be there already.
        """
        data = np.array(token_ids, _TOKEN).tobytes()
        pieces, at = [], 0
        while at < len(data):
            number, used = divmod(self.n_tokens + at // _TOKEN.itemsize, BLOCK_TOKENS)
            end = at + (BLOCK_TOKENS - used) * _TOKEN.itemsize
            pieces.append((number, data[at:end]))
            at = end
        return LogEnd(self.n_tokens + len(token_ids), zlib.crc32(data, self.crc)), pieces

    def decode(self, blocks: Iterable[bytes]) -> list[int]:
        """The tokens of a log that ends here.

        Args:
            blocks: all blocks of the log, in order.

        Raises:
            SessionDamagedError: the blocks are not those that were written.
        """
        try:
            data = b"".join(blocks)
            sound = len(data) == self.n_tokens * _TOKEN.itemsize and zlib.crc32(data) == self.crc
        except TypeError:  # damage can turn a value into one of another type
            sound = False
        if not sound:
            raise SessionDamagedError(
                "the session's log in the store is damaged; delete the session"
            )
        token_ids: list[int] = np.frombuffer(data, _TOKEN).tolist()
        return token_ids
