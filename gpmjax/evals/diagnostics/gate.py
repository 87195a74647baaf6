"""The spectrum of the scale gate over prompts: λ_l(x), the eigenvalue of each 2-d block, for each prompt."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from gpmjax.evals.diagnostics.records import Record

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def gate_spectrum(records: Sequence[Record]) -> dict | None:
    """Size of each block's λ, its variation between prompts, and the number of blocks that share the weight.

    Below, p = λ/Σλ, and H is the entropy in nats.

    Returns:
      None when no record has a gate, otherwise ``prompts``; ``quantiles``, the levels of all quantiles; ``blocks``, a
      list of {"block" (from 1), "mean", "deviation", "variation" (deviation/mean, None at mean 0), "quantiles",
      "largest" (share of prompts in which its λ is the largest)}; ``effective_blocks``, the mean and quantiles over
      prompts of exp H(p), from 1 (one block decides) to k (all weigh the same); ``effective_blocks_overall``, exp H of
      the mean p; ``prompt_information``, H(mean p) − mean H(p) in nats, the information of the prompt about the block,
      which is 0 for a gate that is the same for every prompt.
    Source: effective numbers, Hill 1973, doi:10.2307/1934352; the information is a Jensen–Shannon divergence.

    >>> found = gate_spectrum([{"scale": [1.0, 0.0]}, {"scale": [0.0, 1.0]}])
    >>> found["effective_blocks"]["mean"], found["effective_blocks_overall"], found["blocks"][0]["variation"]
    (1.0, 2.0, 1.0)
    """
    # The first weight of a hybrid, 1, is its reward's and not part of the gate.
    scales = [record["scale"][bool(record.get("reward")) :] for record in records if record.get("scale")]
    if not scales:
        return None
    if len(lengths := {len(scale) for scale in scales}) > 1:
        raise ValueError(f"scale: gates of {sorted(lengths)} blocks in one file, must all have as many")
    scale = np.array(scales, np.float64)
    total = scale.sum(1, keepdims=True)
    share = np.where(total > 0, scale / np.where(total > 0, total, 1.0), 1 / scale.shape[1])
    each, overall = stats.entropy(share, axis=1), float(stats.entropy(share.mean(0)))
    winner = np.bincount(scale.argmax(1), minlength=scale.shape[1]) / len(scale)
    return {
        "prompts": len(scale),
        "quantiles": list(QUANTILES),
        "blocks": [
            _block(block + 1, column, float(largest))
            for block, (column, largest) in enumerate(zip(scale.T, winner, strict=True))
        ],
        "effective_blocks": {
            "mean": float(np.exp(each).mean()),
            "quantiles": np.quantile(np.exp(each), QUANTILES).tolist(),
        },
        "effective_blocks_overall": float(np.exp(overall)),
        "prompt_information": max(0.0, overall - float(each.mean())),
    }


def _block(number: int, values: np.ndarray, largest: float) -> dict:
    mean, deviation = float(values.mean()), float(values.std())
    return {
        "block": number,
        "mean": mean,
        "deviation": deviation,
        "variation": deviation / mean if mean > 0 else None,
        "quantiles": np.quantile(values, QUANTILES).tolist(),
        "largest": largest,
    }
