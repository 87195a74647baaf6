"""Evaluation of models on labelled sets and published benchmarks, diagnostics, and evaluation of policies."""
