"""Subspace discovery: the correlation of each 2-d block with each aspect that people rated.

Spearman's ρ is taken over all pairs of rated responses, between a block's contribution to the score
(`blocks.contributions`) and the difference of the ratings on an aspect. Many blocks times several aspects are many
tests of the same data; ``p_family`` is corrected for their number.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from gpmjax.evals.diagnostics.blocks import contributions, first_block
from gpmjax.evals.diagnostics.correlation import Ranked, correlate, rank_pairs
from gpmjax.evals.diagnostics.records import Record, pair_differences, skew_scores

PERMUTATIONS = 2000


def aspect_correlations(records: Sequence[Record], permutations: int = PERMUTATIONS) -> dict | None:
    """ρ of every block with every aspect, with a bootstrap interval over groups and a permutation test within groups.

    Records with blocks and ``ratings`` are used. A response that lacks a rating on one of the aspects is left out, so
    that all tests use the same pairs. The permutation test shuffles ratings among the responses of a group, so
    differences between prompts cannot make p small.

    Returns:
      None when no record has both, otherwise ``aspects``, ``groups``, ``pairs``, ``left_out`` (responses), ``tests``
      (blocks × aspects), ``permutations``; ``table``, a list of {"block" (from 1; 0 is a hybrid's reward), "aspect",
      "spearman", "interval", "p" (of this test alone, two-sided), "p_family" (that the largest |ρ| of all tests is as
      large by chance)}; and ``score``, {"aspect", "spearman", "interval"} of the whole score.
    Source: Westfall and Young 1993, *Resampling-based multiple testing* (the largest of all tests); p = (1 + times as
      large)/(1 + permutations), Phipson and Smyth 2010.

    >>> record = {"embedding": [[1.0, 0.0], [0.0, 1.0]], "scores": [[0.0, 1.0], [-1.0, 0.0]]}
    >>> found = aspect_correlations([record | {"ratings": {"wit": [5, 2]}}] * 2, permutations=100)
    >>> found["tests"], found["table"][0]["aspect"], found["table"][0]["spearman"]
    (1, 'wit', 1.0)
    """
    held = [
        (record, parts) for record in records if record.get("ratings") and (parts := contributions(record)) is not None
    ]
    if not held:
        return None
    aspects = list(dict.fromkeys(aspect for record, _ in held for aspect in record["ratings"]))
    rated = [_rated(record["ratings"], aspects, parts.shape[1]) for record, parts in held]
    differences = {
        aspect: [_kept(pair_differences(record["ratings"].get(aspect, [None] * len(kept))), kept)
                 for (record, _), kept in zip(held, rated, strict=True)]
        for aspect in aspects
    }  # fmt: skip

    def rated_pairs(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [_kept(matrix, kept) for matrix, kept in zip(matrices, rated, strict=True)]

    blocks = [rated_pairs([parts[block] for _, parts in held]) for block in range(len(held[0][1]))]
    ranked = [[rank_pairs(block, differences[aspect]) for aspect in aspects] for block in blocks]
    found = [[correlate(each) for each in row] for row in ranked]
    alone, family = _chances(ranked, [[line["spearman"] for line in row] for row in found], permutations)
    scores = rated_pairs([skew_scores(record) for record, _ in held])
    whole = [correlate(rank_pairs(scores, differences[aspect])) for aspect in aspects]
    first = first_block([record for record, _ in held])
    return {
        "aspects": aspects,
        "groups": found[0][0]["groups"],
        "pairs": found[0][0]["pairs"],
        "left_out": sum(int((~kept).sum()) for kept in rated),
        "tests": len(blocks) * len(aspects),
        "permutations": permutations,
        "table": [
            {"block": b + first, "aspect": aspect, **_rho(found[b][a]), "p": alone[b][a], "p_family": family[b][a]}
            for b in range(len(blocks))
            for a, aspect in enumerate(aspects)
        ],
        "score": [{"aspect": aspect, **_rho(line)} for aspect, line in zip(aspects, whole, strict=True)],
    }


def _rho(line: Mapping) -> dict:
    return {name: line[name] for name in ("spearman", "interval")}


def _rated(ratings: Mapping[str, Sequence[float | None]], aspects: Sequence[str], count: int) -> np.ndarray:
    """[K] bool: the responses that have a rating on every aspect."""
    columns = [ratings.get(aspect, [None] * count) for aspect in aspects]
    rated = np.array([[np.nan if r is None else r for r in column] for column in columns], np.float64)
    return np.all(np.isfinite(rated), axis=0)


def _kept(matrix: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return matrix[np.ix_(kept, kept)]


def _chances(ranked: Sequence[Sequence[Ranked]], rho: list[list[float | None]], permutations: int) -> tuple[list, list]:
    """p of each test alone and family-wise, [k][A]; None where there is no ρ."""
    rng = np.random.default_rng(0)
    shape = len(ranked), len(ranked[0])
    products = np.zeros((permutations, *shape))
    for g in range(len(ranked[0][0].x)):
        size = len(ranked[0][0].x[g])
        if size < 2:
            continue
        order = rng.permuted(np.tile(np.arange(size), (permutations, 1)), axis=1)
        block = np.stack([row[0].x[g] for row in ranked]).reshape(shape[0], -1)
        for a in range(shape[1]):
            # Shuffling ratings within a group keeps the set of differences, hence each one's rank.
            shuffled = ranked[0][a].y[g][order[:, :, None], order[:, None, :]].reshape(permutations, -1)
            products[:, :, a] += shuffled @ block.T
    sums = np.array([[each.sums().sum(1) for each in row] for row in ranked])
    norm = np.sqrt(sums[..., 1] * sums[..., 2])
    drawn = np.abs(products) / np.where(norm > 0, norm, 1.0)
    observed = np.abs(np.array([[np.nan if r is None else r for r in row] for row in rho]))
    # The tolerance keeps rounding from turning "as large" into "smaller".
    alone = (1 + (drawn >= observed - 1e-9).sum(0)) / (1 + permutations)
    family = (1 + (drawn.max((1, 2))[:, None, None] >= observed - 1e-9).sum(0)) / (1 + permutations)
    return _where_known(alone, rho), _where_known(family, rho)


def _where_known(p: np.ndarray, rho: list[list[float | None]]) -> list[list[float | None]]:
    """p as lists, None where there is no ρ."""
    return [[None if r is None else float(q) for q, r in zip(*rows, strict=True)] for rows in zip(p, rho, strict=True)]
