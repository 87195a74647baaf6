"""Tables, pages and plots for people. Everything here reads files or finished summaries; no model is run."""
