"""Ahead of time: what a training step will need on a slice that is not here, from compiling it for that slice.

chips → what a chip has; program → the step as XLA compiles it; hlo, traffic → what the compiled text says;
report → whether it fits, and no less than how long it takes.
"""
