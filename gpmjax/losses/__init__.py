"""Losses: pure functions that return one float32 value per example. The training step takes their weighted mean.

reward.py           losses of preference models: soft cross-entropy, smooth 0–1 loss, listwise, regularisers
policy.py           losses of policies: GPO, SPPO, Nash-MD, DPO, IPO, REBEL
regression.py       mirror steps by centred regression; the signal of INPO and COMAL
policy_gradient.py  clipped policy gradient; KL from samples
signals.py          from K×K scores to mean scores, win rates, log Z, advantages, and weights of responses and pairs
blocks.py           one advantage per 2-d block, and the monitor of their drift
tokens.py           log-probabilities of tokens without the [N, V] logits
"""
