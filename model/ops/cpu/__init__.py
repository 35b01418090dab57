"""What the kernels of the CPU share: the compiler, and arithmetic with decided roundings."""

import os

from causalrn.model.machine import usable_cores

# Numba reads this when it is imported, and sees the machine's cores, not those of a container.
os.environ.setdefault("NUMBA_NUM_THREADS", str(usable_cores()))
