"""What an evaluator is: a labelled set that can measure a model.

A trainer holds evaluators without knowing what they measure, and hands them the model of the moment:

    figures = evaluator.measure(make_scorer(model, params, mesh), batches)
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from gpmjax.arrays import FeatureBatch, TokenBatch
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PreferenceOutput
from gpmjax.sharding import batch_sharding, replicated

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


def make_scorer(model: PreferenceModel, params: Any, mesh: Mesh) -> Scorer:
    """The jitted model on ``mesh``: rows of a batch split over devices, outputs replicated; float32 is float32 on every chip."""
    apply = jax.jit(
        full_precision(model.runtime.dtype, lambda params, batch: model.apply({"params": params}, batch)),
        in_shardings=(None, batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )
    return functools.partial(apply, params)
