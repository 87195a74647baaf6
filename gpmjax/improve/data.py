"""From an iteration's stages to the batches that its update trains on."""

import numpy as np

from gpmjax.data.packing import permutation
from gpmjax.improve import stages
from gpmjax.improve.batch import Example, PolicyBatch, assemble_policy, fit_policy_shape
from gpmjax.improve.signals import Scored, Signals
from gpmjax.improve.tables import Rows


class Batches:
    """Batch number → PolicyBatch; a pure function of the examples, the seed and the number. The last of an epoch may be short."""

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
    scores: Rows, current: Rows, base: Rows, reference: Rows | None = None, previous: Rows | None = None
) -> Scored:
    """The stages' rows as arrays, log-probabilities summed over tokens; ``reference`` and ``previous`` as in Scored."""
    sums = lambda rows: np.array([[sum(tokens) for tokens in row["logprobs"]] for row in rows], np.float32)
    return Scored(
        scores=stages.stacked(scores, "scores"),
        tau=scores[0]["tau"],
        current=sums(current),
        base=sums(base),
        embedding=stages.stacked(scores, "embedding"),
        scale=stages.stacked(scores, "scale"),
        reference=None if reference is None else sums(reference),
        previous=None if previous is None else sums(previous),
    )


def training_examples(sampled: Rows, current: Rows, base: Rows, found: Signals) -> list[Example]:
    """Each prompt with the responses that count; prompts of which none does are left out."""
    counts = found.counts
    arrays = lambda row: tuple(np.array(tokens, np.float32) for tokens in row["logprobs"])
    examples = []
    for n in np.flatnonzero(counts.any(axis=1)):
        whole = stages.unsignalled(sampled[n])._replace(
            current=arrays(current[n]),
            base=arrays(base[n]),
            signal=found.signal[n],
            log_partition=found.log_partition[n],
            response_weight=found.response_weight[n],
            pair_weight=found.pair_weight[n],
        )
        examples.append(whole.keep(np.flatnonzero(counts[n])))
    return examples
