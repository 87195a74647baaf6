"""The mathematics of general preference models: pure functions of arrays, jax only.

    inputs.py           what every function here asks of its arrays
    operator.py         R, the scale gate, the canonical and the complex form
    score.py            s, P, all K×K pairs of K embeddings, Bradley–Terry as the scalar case
    embed.py            explicit embeddings of any skew-symmetric matrix (the expressiveness theorems)
    game.py             von Neumann winner, exploitability, best of K, cycles
    interior_point.py   the solver behind the von Neumann winner
    self_play.py        how policies move when they train against themselves

Theorem, proposition and equation numbers are those of *Beyond Bradley-Terry Models: A General Preference Model
for Language Model Alignment* (arXiv 2410.02197). The names most callers want are at the top: ``gpmjax.score``, ….
"""
