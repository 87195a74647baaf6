"""The engine that fits and improvements share: one step, one loop, optimiser, checkpoints, metrics."""
