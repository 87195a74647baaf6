"""Tables of finished summaries for the terminal, printed by rich."""
