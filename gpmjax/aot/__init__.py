"""Ahead of time: what a training step will need on a slice that is not here, from compiling it for that slice.

workload → what a run does, in shapes; chips → what a chip has; program → the step as XLA compiles it; hlo, traffic → what
the compiled text says; estimate → memory by formula, for GPUs; report → whether it fits, and no less than how long it takes.
"""
