"""General preference models and general preference optimisation in JAX.

>>> import gpmjax, jax.numpy as jnp
>>> v = gpmjax.embed_skew_symmetric(jnp.array([[0.0, 2.0], [-2.0, 0.0]]))
>>> gpmjax.pairwise_scores(v).round(3).tolist()
[[0.0, 2.0], [-2.0, 0.0]]
"""

from gpmjax.preference.embed import embed_skew_symmetric
from gpmjax.preference.game import von_neumann_winner
from gpmjax.preference.operator import rotate
from gpmjax.preference.score import pairwise_scores, score, win_probability
from gpmjax.version import __version__

__all__ = [
    "embed_skew_symmetric",
    "pairwise_scores",
    "rotate",
    "score",
    "von_neumann_winner",
    "win_probability",
    "__version__",
]
