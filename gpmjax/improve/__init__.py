"""Improving policies: sample, score, update, iteration by iteration; the loop is `gpmjax.train`'s."""
