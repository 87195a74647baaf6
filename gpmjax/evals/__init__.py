"""Measuring models: labelled sets, published benchmarks, diagnostics, and policies by their answers."""
