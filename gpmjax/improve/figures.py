"""Figures of an iteration's samples and scores."""

from typing import Any

import numpy as np
import pyarrow as pa

from gpmjax.improve.signals import Drift, Scored, Signals
from gpmjax.improve.stages import Samples
from gpmjax.improve.tables import stacked

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def iteration_figures(
    iteration: int, sampled: Samples, scores: pa.Table, scored: Scored, found: Signals, drift: Drift | None
) -> dict[str, Any]:
    """Figures of π_t's samples: score distribution, win rates, lengths, entropy, distance from the first policy,
    cycles.

    ``repeated_responses`` counts responses whose text an earlier response to the same prompt has;
    ``prompts_left_out`` counts prompts that nothing is learnt from, for nothing tells their responses apart.

    The entropy is of the distribution that was sampled from (after temperature and top-p), nats a token. The distance
    is KL(π_t‖π_1) by k1, nats a response, over those samples: exact at temperature 1 without top-p, else an indication.
    """
    mean_scores, win_rates, cyclic_share = (
        stacked(scores[name]).astype(np.float64) for name in ("mean_score", "win_rate", "cyclic_share")
    )
    figures = {
        "iteration": iteration,
        "prompts": len(sampled),
        "responses": int(mean_scores.size),
        "mean_score": spread(mean_scores),
        "win_rate": spread(win_rates),
        "repeated_responses": sum(sampled.count - len(set(sampled.texts(n))) for n in range(len(sampled))),
        "prompts_left_out": int(np.sum(~found.counts.any(axis=1))),
        "length": spread(sampled.lengths),
        "stopped": float(np.mean(sampled.stopped)),
        "cyclic_share": float(np.mean(cyclic_share)),
        "kl_base_k1": float(np.mean(scored.current - scored.base)),
    }
    if sampled.logprobs is not None:
        figures["entropy"] = -float(np.mean(sampled.logprobs.values.astype(np.float64)))
    if drift is not None:
        figures["block_shares"], figures["block_drift"] = drift.shares.tolist(), drift.drift
    return figures


def spread(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and quantiles.

    >>> spread(np.array([1.0, 3.0]))["mean"]
    2.0
    """
    named = {f"q{int(100 * q):02}": float(np.quantile(values, q)) for q in QUANTILES}
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), **named}
