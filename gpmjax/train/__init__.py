"""Fitting: one step, one loop, and what they need around them."""
