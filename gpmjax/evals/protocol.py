"""What an evaluator is: a labelled set that can measure a model.

A trainer holds evaluators without knowing what they measure, and hands them the model of the moment:

    apply = jax.jit(lambda params, batch: model.apply({"params": params}, batch))
    figures = evaluator.measure(functools.partial(apply, params), batches)
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gpmjax.arrays import FeatureBatch, TokenBatch
from gpmjax.models.heads import PreferenceOutput

Batch = TokenBatch | FeatureBatch

Scorer = Callable[[Batch], PreferenceOutput]
"""A model with its parameters filled in; jitted by the caller, who knows the mesh. On several hosts every host hands
in the same batches, and the outputs must be replicated."""


class Evaluator(Protocol):
    """Measures one thing; `gpmjax.evals.held_out.HeldOut` is one."""

    def measure(self, scorer: Scorer, batches: Iterable[Batch]) -> dict[str, Any]:
        """JSON-ready figures by name; "accuracy" and "nll" among them where checkpoints are to be ranked.

        ``batches`` hold the evaluator's own examples, as tokens or, for a frozen backbone, as features.
        """
        ...
