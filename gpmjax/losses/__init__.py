"""Losses: pure functions, one value per example, float32 whatever comes in; the train step reduces them once.

    reward.py   fitting a preference model: soft cross-entropy, its smooth 0–1 sibling, listwise, regularisers
    tokens.py   log-probabilities of tokens without the [N, V] logits
"""
