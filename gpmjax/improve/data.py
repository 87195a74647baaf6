"""Makes the batches of an iteration's update from its stages."""

from typing import Any

import numpy as np
import pyarrow as pa

from gpmjax.data.packing import permutation
from gpmjax.improve import stages
from gpmjax.improve.batch import Example, PolicyBatch, assemble_policy, fit_policy_shape
from gpmjax.improve.signals import Scored, Signals
from gpmjax.improve.tables import Ragged, stacked


class Batches:
    """Batch number → PolicyBatch; a pure function of the examples, the seed and the number. The last of an epoch may
    be short."""

    def __init__(self, examples: list[Example], rows: int, seed: int):
        self._examples, self._rows, self._seed = examples, rows, seed
        self.shape = fit_policy_shape(examples, rows)
        self.steps_an_epoch = -(-len(examples) // rows)

    def __call__(self, step: int) -> PolicyBatch:
        epoch, number = divmod(step, self.steps_an_epoch)
        order = permutation(len(self._examples), self._seed, epoch)
        picked = order[number * self._rows : (number + 1) * self._rows]
        return assemble_policy([self._examples[n] for n in picked], self.shape)


def scored_samples(
    scores: pa.Table, current: Ragged, base: Ragged, reference: Ragged | None = None, previous: Ragged | None = None
) -> Scored:
    """The stages' scores, and log-probabilities summed over tokens; ``reference`` and ``previous`` as in Scored."""
    policies = dict(current=current, base=base, reference=reference, previous=previous)
    sums: dict[str, Any] = {
        name: None if each is None else each.sums().reshape(len(scores), -1) for name, each in policies.items()
    }
    of_scorer: dict[str, Any] = {
        name: None if scores[name].null_count else stacked(scores[name]) for name in ("scores", "embedding", "scale")
    }
    return Scored(tau=scores["tau"][0].as_py(), **of_scorer, **sums)


def training_examples(sampled: stages.Samples, current: Ragged, base: Ragged, found: Signals) -> list[Example]:
    """Each prompt with the responses that count; prompts of which none does are left out. Tokens are views."""
    counts, size = found.counts, sampled.count
    examples = []
    for n in np.flatnonzero(counts.any(axis=1)).tolist():
        places = range(n * size, (n + 1) * size)
        whole = sampled.example(n)._replace(
            current=tuple(current[place] for place in places),
            base=tuple(base[place] for place in places),
            signal=found.signal[n],
            log_partition=found.log_partition[n],
            response_weight=found.response_weight[n],
            pair_weight=found.pair_weight[n],
        )
        examples.append(whole.keep(np.flatnonzero(counts[n])))
    return examples
