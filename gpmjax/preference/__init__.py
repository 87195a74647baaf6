"""The mathematics of general preference models: pure functions of arrays, jax only (numpy where groups come in every size).

    inputs.py           what every function here asks of its arrays
    operator.py         R, the scale gate, the canonical and the complex form
    score.py            s, P, all K×K pairs of K embeddings, Bradley–Terry as the scalar case
    hybrid.py           a reward and a cyclic part in one score; how any score splits into reward and curl
    embed.py            explicit embeddings of any skew-symmetric matrix (the expressiveness theorems)
    game.py             von Neumann winner, exploitability, best of K, cycles
    interior_point.py   the solver behind the von Neumann winner
    votes.py            comparisons of many prompts as arrays; the labels Bradley–Terry would have given
    bradley_terry.py    ridge fits of many data sets at once
    cycle_statistic.py  how much better cycles predict held-out votes than rewards
    cycle_test.py       are the cycles real? that statistic beside Bradley–Terry with vote noise
    held_out_gain.py    the same question to two fitted models
    self_play.py        how policies move when they train against themselves

Theorem, proposition and equation numbers are those of *Beyond Bradley-Terry Models: A General Preference Model
for Language Model Alignment* (arXiv 2410.02197). The names most callers want are at the top: ``gpmjax.score``, ….
"""
