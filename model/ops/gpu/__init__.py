"""What the kernels of devices share, which are written in Triton.

A kernel works on *tiles*: blocks of fixed size, whatever else is in the batch, whose sums are added
up in a fixed order. So what a row gets depends on that row, and not on its neighbours.
"""
