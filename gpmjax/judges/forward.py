"""`make_scorer`: a preference model as a function of batches."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from gpmjax.arrays import FeatureBatch, TokenBatch
from gpmjax.models.precision import full_precision
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput
from gpmjax.sharding import batch_sharding, replicated

Batch = TokenBatch | FeatureBatch

Scorer = Callable[[Batch], PreferenceOutput | PairwiseOutput]
"""A model with its parameters filled in; jitted by the caller, who knows the mesh. On several hosts every host passes
the same batches, and the outputs must be replicated."""


def make_scorer(model: PreferenceModel, params: Any, mesh: Mesh) -> Scorer:
    """The jitted model on ``mesh``: a batch's rows are split over devices, outputs replicated, float32 is not
    rounded."""
    apply = jax.jit(
        full_precision(model.runtime.dtype, lambda params, batch: model.apply({"params": params}, batch)),
        in_shardings=(None, batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )
    return functools.partial(apply, params)
