"""What an iteration's samples and scores look like in numbers."""

from typing import Any

import numpy as np

from gpmjax.improve.signals import Drift, Scored, Signals
from gpmjax.improve.tables import Rows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def iteration_figures(
    iteration: int, sampled: Rows, scores: Rows, scored: Scored, found: Signals, drift: Drift | None
) -> dict[str, Any]:
    """Figures of π_t's samples: score distribution, win rates, lengths, entropy, distance from the first policy, cycles.

    ``repeated_responses`` counts responses whose text an earlier response to the same prompt has; ``prompts_left_out`` counts
    prompts that nothing is learnt from, for nothing tells their responses apart.

    The entropy is of the distribution that was sampled from (after temperature and top-p), nats a token. The distance is
    KL(π_t‖π_1) by k1, nats a response, over those samples: exact at temperature 1 without top-p, else an indication.
    """
    mean_scores = np.array([row["mean_score"] for row in scores])
    win_rates = np.array([row["win_rate"] for row in scores])
    figures = {
        "iteration": iteration,
        "prompts": len(sampled),
        "responses": int(mean_scores.size),
        "mean_score": spread(mean_scores),
        "win_rate": spread(win_rates),
        "repeated_responses": sum(len(row["responses"]) - len(set(row["responses"])) for row in sampled),
        "prompts_left_out": int(np.sum(~found.counts.any(axis=1))),
        "length": spread(lengths(sampled)),
        "stopped": float(np.mean([row["stopped"] for row in sampled])),
        "cyclic_share": float(np.mean([row["cyclic_share"] for row in scores])),
        "kl_base_k1": float(np.mean(scored.current - scored.base)),
    }
    if sampled[0]["logprobs"] is not None:
        drawn = [value for row in sampled for tokens in row["logprobs"] for value in tokens]
        figures["entropy"] = -float(np.mean(drawn))
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


def lengths(sampled: Rows) -> np.ndarray:
    """Tokens of each response, [N, K]."""
    return np.array([[len(tokens) for tokens in row["response_tokens"]] for row in sampled])
