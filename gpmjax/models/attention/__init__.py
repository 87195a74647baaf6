"""Attention over rows of groups: one function, and its kernels for CPUs, TPUs and GPUs."""
