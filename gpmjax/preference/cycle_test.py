"""Are the cycles real? A test of comparisons against Bradley–Terry with vote noise.

Noisy votes form cycles even where preferences do not, since the vote on two close responses sometimes goes the wrong
way. A share of cyclic triads therefore proves nothing by itself: it must be compared with the share that noise alone
makes. Here the null hypothesis is simulated by parametric bootstrap:

    1. fit Bradley–Terry to every group, with one ridge for all groups, chosen from the labels; 2. draw new labels for
    the same pairs, with the same numbers of votes, from the fitted rewards. The rewards are first stretched so that a
    refit of such labels is as spread as the fit (a ridge shrinks rewards, noise spreads them); 3. refit, and compare
    the statistic: T of `cycle_statistic`, the held-out log-likelihood ratio of a hybrid to Bradley–Terry.

    p = (1 + number of replicates with T* ≥ T) / (1 + replicates).

The test cannot find cycles that noise could have made: with three responses and one vote per pair, only a share of
cyclic triads above one quarter contradicts every Bradley–Terry model. `benchmarks/cycle_test.py` measures errors and
power. A replicate takes a few solves of K×K matrices per group: milliseconds for twenty prompts of 33 responses, a few
tenths of a second for one prompt of 656.

Sources: Davison and Hinkley 1997, *Bootstrap Methods and their Application*, section 4.2 (the p-value); arXiv
2601.07158, which estimates cycles beside noise by shrinking the cyclic part, so that Bradley–Terry is left where there
is none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpmjax.preference import cycle_statistic
from gpmjax.preference.bradley_terry import centred_energy, choose_ridge, fit_bradley_terry, match_spread
from gpmjax.preference.votes import Block, blocks, redraw

REPLICATES = 199
ALPHA = 0.05
_MATCHED = 2000  # responses, summed over replicates, in the simulations that find the stretch of the rewards
_ENTRIES = 1e6  # matrix entries of one block, over replicates, that are held at a time


def cycle_test(
    groups: Sequence, *, directions: Sequence | None = None, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Any]:
    """Whether comparisons hold cycles beyond vote noise.

    Args:
      groups: per prompt, rows (i, j, target) with perhaps a weight and a number of votes, see `votes.blocks`. Rows may
        hold any subset of the pairs, and a pair any number of times. `votes.count_rows` makes rows from counts.
      directions: per prompt, what a model adds to each row's log-odds beyond rewards. The test then is whether the
        *model's* cycles are in the labels, which must not be labels that it was trained on. None tests the labels
        alone.
      replicates: B of the bootstrap; the smallest possible p is 1/(B + 1).
      seed: of the bootstrap. The result depends on the labels and the seed only: not on the responses' names, nor on
        the order of the groups.
    Returns:
      JSON-ready values:

        p            None where no comparisons close a cycle
        statistic    T in nats
        per_vote     T / the votes' total weight
        comparisons  rows used, which are those that a cycle can pass
        left_out     the other rows
        groups       groups with rows used
        null         {"mean", "deviation", "critical"} of T*; critical is the 95 % quantile
        triads       {"triads", "seen", "expected", "deviation"}: triads whose three pairs all have votes; cyclic ones
                     among them; mean and deviation of the number of cyclic ones under Bradley–Terry with vote noise
        ridge, stretch of the fit; replicates, seed; text, the answer in a sentence

    Raises:
      ValueError: one line naming the group, the row and the value.

    >>> round = [(0, 1, 0.9, 1.0, 50), (1, 2, 0.9, 1.0, 50), (2, 0, 0.9, 1.0, 50)]
    >>> cycle_test([round], replicates=19)["p"]
    0.05
    """
    if replicates < 1:
        raise ValueError(f"replicates={replicates}: must be at least 1")
    data = blocks(groups, directions=directions)
    directed = directions is not None
    if directed and not any(np.any(block.direction) for block in data):
        data = []
    used = sum(len(block.i) for block in data)
    found: dict[str, Any] = {
        "p": None, "statistic": None, "per_vote": None, "comparisons": used, "left_out": sum(map(len, groups)) - used,
        "groups": sum(len(block.present) for block in data), "replicates": replicates, "seed": seed,
        "null": None, "triads": None, "ridge": None, "stretch": None,
    }  # fmt: skip
    if not data:
        return found | {"text": _nothing(directed)}
    rng = np.random.default_rng(seed)
    wins = [block.wins[None] for block in data]
    ridge, rewards, stretch = _fit(data, wins, seed)
    statistic = float(cycle_statistic.pooled_statistic(data, wins, ridge, directed=directed)[0])
    simulated, cycles = _null(data, rewards, ridge, replicates, rng, directed)
    found |= {
        "p": float((1 + np.sum(simulated >= statistic - 1e-6)) / (1 + replicates)),
        "statistic": statistic,
        "per_vote": statistic / float(sum((block.weight * block.votes).sum() for block in data)),
        "null": {
            "mean": float(simulated.mean()),
            "deviation": float(simulated.std()),
            "critical": float(np.quantile(simulated, 1 - ALPHA)),
        },
        "triads": {
            "triads": sum(cycle_statistic.complete_triads(block) for block in data),
            "seen": int(
                sum(cycle_statistic.cyclic_triads(block, won)[0] for block, won in zip(data, wins, strict=True))
            ),
            "expected": float(cycles.mean()),
            "deviation": float(cycles.std()),
        },
        "ridge": ridge,
        "stretch": stretch,
    }
    return found | {"text": describe_cycles(found, directed=directed)}


def describe_cycles(found: dict[str, Any], *, directed: bool = False) -> str:
    """The result of `cycle_test` as one sentence.

    >>> triads = {"triads": 90, "seen": 7, "expected": 6.6, "deviation": 2.0}
    >>> describe_cycles({"p": 0.43, "triads": triads})
    'cycles beyond vote noise: p = 0.430: none found; Bradley–Terry + noise predicts 7 ± 2 of 90 triads cyclic, seen 7'
    """
    if found["p"] is None:
        return _nothing(directed)
    subject = "the model's cycles in the labels, beyond vote noise" if directed else "cycles beyond vote noise"
    verdict = "found" if found["p"] <= ALPHA else "none found"
    triads = found["triads"]
    counted = (
        f"; Bradley–Terry + noise predicts {triads['expected']:,.0f} ± {triads['deviation']:,.0f} "
        f"of {triads['triads']:,} triads cyclic, seen {triads['seen']:,}"
    )
    return f"{subject}: p = {found['p']:.3f}: {verdict}" + (counted if triads["triads"] else "")


def _nothing(directed: bool) -> str:
    if directed:
        subject = "the model's cycles in the labels, beyond vote noise"
        return f"{subject}: no labelled pair is on a cycle of the model, nothing to test"
    return "cycles beyond vote noise: no comparisons close a cycle, nothing to test"


def _fit(data: list[Block], wins: list[np.ndarray], seed: int) -> tuple[float, list[np.ndarray], float]:
    """The ridge; the stretched rewards [G, K] of each block, from which labels are drawn; and the stretch."""
    totals = [block.matrix((block.weight * block.votes)[None], 1)[0] for block in data]
    matrices = [cycle_statistic.weighted_wins(block, won) for block, won in zip(data, wins, strict=True)]
    present = [block.present for block in data]
    ridge = choose_ridge(matrices, totals, present)
    fits = [fit_bradley_terry(won, total, ridge).reward[0] for won, total in zip(matrices, totals, strict=True)]

    runs = int(np.clip(_MATCHED / sum(there.sum() for there in present), 2, 16))

    def energy(stretch: float) -> float:
        rng = np.random.default_rng([seed, 1])  # the same random numbers at every stretch
        found = 0.0
        for block, total, reward in zip(data, totals, fits, strict=True):
            for _ in range(runs):
                won = cycle_statistic.weighted_wins(block, _draw(block, stretch * reward, 1, rng))
                refit = fit_bradley_terry(won, total, ridge, start=stretch * reward, tolerance=1e-2)
                found += centred_energy(refit.reward, block.present)[0] / runs
        return float(found)

    target = sum(float(centred_energy(reward[None], there)[0]) for reward, there in zip(fits, present, strict=True))
    stretch = match_spread(energy, target)
    return ridge, [stretch * reward for reward in fits], stretch


def _draw(block: Block, reward: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Votes for i drawn from Bradley–Terry, [count, M]."""
    log_odds = reward[block.group, block.i] - reward[block.group, block.j]
    return block.votes * redraw(
        np.broadcast_to(log_odds, (count, len(log_odds))), block.wins / block.votes, rng, votes=block.votes
    )


def _null(
    data: list[Block],
    rewards: list[np.ndarray],
    ridge: float,
    replicates: int,
    rng: np.random.Generator,
    directed: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """T* and the number of cyclic triads, [B] each, of labels drawn from the rewards."""
    largest = max(block.present.size * block.size for block in data)
    at_once = max(1, int(_ENTRIES / largest))
    statistics, cycles = [], []
    for begin in range(0, replicates, at_once):
        count = min(at_once, replicates - begin)
        drawn = [_draw(block, reward, count, rng) for block, reward in zip(data, rewards, strict=True)]
        statistics.append(cycle_statistic.pooled_statistic(data, drawn, ridge, directed=directed))
        cycles.append(sum(cycle_statistic.cyclic_triads(block, won) for block, won in zip(data, drawn, strict=True)))
    return np.concatenate(statistics), np.concatenate(cycles)
