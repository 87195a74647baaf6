"""Finished summaries as tables on a terminal."""
