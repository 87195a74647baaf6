"""Measuring models: one file an evaluator, one protocol (`gpmjax.evals.protocol`)."""
