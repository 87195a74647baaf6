"""Fitting preference models: data, loss, step and the choice of what a cycle costs; the loop is `gpmjax.train`'s."""
