"""What the kernels of devices share. They are written in Triton, which this package alone imports.

A kernel works on *tiles*: blocks of fixed size, whatever else is in the batch, whose sums are added
up in a fixed order. So what a row gets depends on that row, and not on its neighbours.
"""
