"""Column sums in a fixed order, shared by the kernels."""
