"""From files of preferences to batches of tokens, on the host."""
