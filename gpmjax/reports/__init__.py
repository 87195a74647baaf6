"""What people look at: tables, pages and plots. Everything here reads files or finished summaries, and computes no model."""
