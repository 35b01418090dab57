"""What a pool may keep memories in. Imports nothing, so that settings and commands may know it."""

from typing import Literal, get_args

PoolDtype = Literal["float32", "bfloat16"]
POOL_DTYPES: tuple[PoolDtype, ...] = get_args(PoolDtype)
