"""What an evaluator is: a callable that is given a model and returns figures.

A trainer holds evaluators without knowing what they measure, and calls them with the parameters of the moment:

    apply = jax.jit(lambda params, batch: model.apply({"params": params}, batch))
    figures = evaluator(functools.partial(apply, params))
"""

from collections.abc import Callable
from typing import Any, Protocol

from gpmjax.arrays import FeatureBatch, TokenBatch
from gpmjax.models.heads import PreferenceOutput

Batch = TokenBatch | FeatureBatch

Scorer = Callable[[Batch], PreferenceOutput]
"""A model with its parameters filled in; jitted by the caller, who knows the mesh. On several hosts every host is given
the same batches, and the outputs must be replicated."""


class Evaluator(Protocol):
    """Measures one thing."""

    def __call__(self, scorer: Scorer) -> dict[str, Any]:
        """Figures by name, JSON-ready; "accuracy" and "nll" where they make sense, since checkpoints are ranked by them."""
        ...
