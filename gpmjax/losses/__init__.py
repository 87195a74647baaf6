"""Losses: pure functions, one value per example, float32 whatever comes in; the train step reduces them once.

reward.py           fitting a preference model: soft cross-entropy, its smooth 0–1 sibling, listwise, regularisers
policy.py           improving a policy: GPO, SPPO, Nash-MD, DPO, IPO, REBEL
regression.py       mirror steps by centred regression; the signal of INPO and COMAL
policy_gradient.py  clipped policy gradient; KL from samples
signals.py          from K×K scores to mean scores, win rates, log Z, advantages, and which responses count
blocks.py           one advantage per 2-d block, and the monitor of their drift
tokens.py           log-probabilities of tokens without the [N, V] logits
"""
