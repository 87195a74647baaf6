"""Ahead-of-time compilation: what a training step will need on a slice that is not available here.

workload.py  the step that a run does, in shapes
topology.py  the chips of a slice, by its name
program.py   the step, compiled by XLA for the slice
hlo.py       the compiled program's text
compute.py   FLOPs of the compiled program
traffic.py   its bytes between chips, and to and from HBM
exchange.py  the bytes between chips that are needed in theory
estimate.py  memory by formula, for GPUs
report.py    whether the step fits, and a lower bound of its time
"""
