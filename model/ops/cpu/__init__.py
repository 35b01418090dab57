"""What the kernels of the CPU share: the compiler, and arithmetic with decided roundings."""
