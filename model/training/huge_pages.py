"""Memory for large tensors in pieces of 2 MiB, where Linux has them."""

import os


def use_huge_pages() -> None:
    """Have torch ask for huge pages, unless the environment says otherwise.

    To be called before torch has made its first tensor. With long contexts, every step has tensors
    of more than 32 MiB, which the C library takes from the system anew. In pieces of 4 KiB, that
    takes about as long as computing what is written there.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
