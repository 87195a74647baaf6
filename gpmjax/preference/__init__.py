"""The mathematics of general preference models: pure functions of arrays, in jax (in numpy where group sizes differ).

    inputs.py           checks of the arrays that functions here take
    operator.py         R, the scale gate, the canonical and the complex form
    score.py            s, P, all K×K pairs of K embeddings, Bradley–Terry as the scalar case
    hybrid.py           a reward and a cyclic part in one score; the split of any score into reward and curl
    embed.py            explicit embeddings of any skew-symmetric matrix (the expressiveness theorems)
    game.py             von Neumann winner, exploitability, best of K, cycles
    interior_point.py   the solver that finds the von Neumann winner
    votes.py            comparisons of many prompts as arrays; labels drawn from Bradley–Terry
    bradley_terry.py    ridge fits of many data sets at once
    cycle_statistic.py  how much better cycles predict held-out votes than rewards do
    cycle_test.py       are the cycles real? the statistic, compared with Bradley–Terry plus vote noise
    held_out_gain.py    the same test for two fitted models
    self_play.py        how policies move when they train against themselves

Theorem, proposition and equation numbers are those of *Beyond Bradley-Terry Models: A General Preference Model for
Language Model Alignment* (arXiv 2410.02197). ``gpmjax`` itself exports the names that most callers want.
"""
