"""Attention over rows of groups: one function, and the kernels behind it for CPUs, TPUs and GPUs."""
