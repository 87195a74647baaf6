"""Policy losses on games whose equilibrium is known: exploitability by iteration, compared with theory.

    python benchmarks/bandit.py --out=benchmarks/results/bandit.json --figure=docs/bandit.png \
        --last_figure=docs/last_iterate.png

The policy is a softmax over the arms of one game. The arms are the responses, and their scores are given. An iteration
is that of the real loop: draw K = 5 responses for each of 128 prompts from π_t, score all pairs, and minimise a loss of
gpmjax/losses over the policy, which becomes π_{t+1}. Two games show how GPO, SPPO, Nash-MD and iterative DPO move. 36
other games (`unseen_games.py`) show which methods' last policy is at the equilibrium.
"""

import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from unseen_games import last_iterates, minimise

from gpmjax.losses import policy, regression, signals
from gpmjax.losses.reward import weighted_mean
from gpmjax.preference.game import exploitability, von_neumann_winner
from gpmjax.preference.score import win_probability
from gpmjax.preference.self_play import self_play
from gpmjax.reports.plots import style
from gpmjax.reports.plots.exploitability import exploitability_curves, last_iterate_curves

OUT = flags.DEFINE_string("out", "benchmarks/results/bandit.json", "JSON file for the figures.")
FIGURE = flags.DEFINE_string("figure", "docs/bandit.png", "Image file for the plot of the two games.")
LAST_FIGURE = flags.DEFINE_string(
    "last_figure", "docs/last_iterate.png", "Image file for the plot of the unseen games."
)

PROMPTS, K, ITERATIONS, SEEDS = 128, 5, 100, 3
SCORE = 2.0  # log-odds of every win: σ(2) = 0.88

DRAWN = ("SPPO", "OMWU", "Nash-MD", "INPO", "Nash-MD, moving reference", "COMAL", "COMAL, optimistic")
"""The methods in the plot of the unseen games."""

# An update moves log-probabilities by signal/β. On these games all wins have one score, so the win-rate methods make
# the same steps with a β that is smaller by the factor (σ(SCORE) − ½)/SCORE.
BETA = 4.0
RATE_PER_SCORE = float(jax.nn.sigmoid(SCORE) - 0.5) / SCORE
RATE_BETA = BETA * RATE_PER_SCORE
DPO_BETA = BETA
MIXTURE = 0.1


def games() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name → scores [n, n] and a biased start [n]. All wins have one score, so win rates have the same winner."""
    cycle = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    tosses = np.random.default_rng(3).integers(0, 2, size=(8, 8)) * 2 - 1
    tournament = np.triu(tosses, 1) - np.triu(tosses, 1).T
    return {
        "rock–paper–scissors": (SCORE * cycle, np.array([0.8, 0.15, 0.05])),
        "tournament of 8": (SCORE * tournament, np.r_[0.65, np.full(7, 0.05)]),
    }


Loss = Callable[..., jax.Array]


def on_responses(loss: Loss) -> Loss:
    """A loss's full estimator, its mean over all K responses: a function of (logprobs, current, reference, scores)."""
    return lambda *batch: jnp.mean(loss(*batch))


def gpo(logprob, current, reference, scores):
    return policy.gpo_loss(logprob, current, signals.mean_score(scores), beta=BETA)


def gpo_with_log_z(logprob, current, reference, scores):
    score = signals.mean_score(scores)
    log_Z = signals.log_partition(score, beta=BETA)
    return policy.gpo_loss(logprob, current, score, beta=BETA, log_partition=log_Z)


def sppo(logprob, current, reference, scores):
    return policy.sppo_loss(logprob, current, signals.mean_win_rate(scores), beta=RATE_BETA)


def nash_md(logprob, current, reference, scores):
    win_rate = signals.mixture_win_rate(scores, current, reference, mixture=MIXTURE)
    return policy.nash_md_loss(logprob, current, reference, win_rate, beta=RATE_BETA, mixture=MIXTURE)


def dpo(logprob, current, reference, scores):
    """DPO on all decided pairs, with the winner chosen. Each label is true with its own P, as if drawn."""
    losses = _dpo_of_all_pairs(logprob, current, label_smoothing=1 - win_probability(scores))
    return weighted_mean(losses, signals.pair_weights(scores, "all"))


def dpo_hard(logprob, current, reference, scores):
    """DPO on the released recipe's pair, best against worst, with a hard label."""
    weight = signals.pair_weights(scores, "best_and_worst") * (scores > 0)  # five draws of one arm hold no pair
    return weighted_mean(_dpo_of_all_pairs(logprob, current), weight)


def _dpo_of_all_pairs(logprob, current, label_smoothing=0.0):
    """The losses [P, K, K] with row i chosen and column j rejected, from log-probabilities [P, K]."""
    shape = (*logprob.shape, K)
    chosen = [jnp.broadcast_to(x[:, :, None], shape) for x in (logprob, current)]
    rejected = [jnp.broadcast_to(x[:, None, :], shape) for x in (logprob, current)]
    return policy.dpo_loss(*chosen, *rejected, beta=DPO_BETA, label_smoothing=label_smoothing)


METHODS: dict[str, Loss] = {
    "GPO": on_responses(gpo),
    "GPO, log Z": on_responses(gpo_with_log_z),
    "SPPO": on_responses(sppo),
    "Nash-MD": on_responses(nash_md),
    "DPO, labels drawn": dpo,
    "DPO, best and worst": dpo_hard,
}


def learn(method: Loss, scores: jax.Array, start: jax.Array, seed: jax.Array) -> jax.Array:
    """The policies π_0 … π_T [T + 1, n] of one learner."""
    reference = jnp.log(start)

    def iteration(current, key):
        arms = jax.random.categorical(key, current, shape=(PROMPTS, K))
        drawn = jax.nn.one_hot(arms, len(start))  # on a CPU its products are much faster than the gradients of gathers
        pairs = jnp.einsum("pin,nm,pjm->pij", drawn, scores, drawn)

        def loss(logits):
            return method(drawn @ jax.nn.log_softmax(logits), drawn @ current, drawn @ reference, pairs)

        current = minimise(loss, current)
        return current, current

    keys = jax.random.split(jax.random.key(seed), ITERATIONS)
    _, policies = jax.lax.scan(iteration, reference, keys)
    return jnp.exp(jnp.concatenate([reference[None], policies]))


def nash_md_in_theory(rates: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The policies of exact Nash-MD steps, from win rates minus ½."""
    log_p = reference = np.log(start)
    path = [start]
    for _ in range(ITERATIONS):
        log_mixture = (1 - MIXTURE) * log_p + MIXTURE * reference
        opponent = np.exp(log_mixture) / np.exp(log_mixture).sum()
        log_p = log_mixture + rates @ opponent * (K - 1) / K / RATE_BETA
        log_p -= np.log(np.exp(log_p).sum())
        path.append(np.exp(log_p))
    return np.array(path)


def theories(scores: np.ndarray, start: np.ndarray) -> dict[str, np.ndarray]:
    """Paths of exact updates without samples or fitting. One of K opponents is the response itself, hence (K − 1)/K."""
    step = dict(rule="multiplicative_weights", steps=ITERATIONS, step_size=(K - 1) / K / BETA)
    return {
        "multiplicative weights": np.asarray(self_play(jnp.asarray(scores), jnp.asarray(start), **step)),
        "exact Nash-MD": nash_md_in_theory(np.asarray(win_probability(scores)) - 0.5, start),
    }


def measured(path: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The win rate of the best response minus ½, in [0, ½], for policies [..., n]."""
    rates = win_probability(jnp.asarray(scores)) - 0.5
    return np.asarray(exploitability(path, jnp.broadcast_to(rates, (*path.shape, path.shape[-1]))))


def play(scores: np.ndarray, start: np.ndarray) -> dict:
    """The document's entry of one game: exploitability of every method, of its average policy, and of theory."""
    scores, start = scores.astype(np.float32), start.astype(np.float32)
    curves, averages = {}, {}
    for name, method in METHODS.items():
        run = jax.jit(jax.vmap(partial(learn, method, jnp.asarray(scores), jnp.asarray(start))))
        paths = np.asarray(run(jnp.arange(SEEDS)))
        running = np.cumsum(paths, axis=1) / np.arange(1, ITERATIONS + 2)[:, None]
        curves[name] = _spread(measured(paths, scores))
        averages[name] = _spread(measured(running.astype(np.float32), scores))
        last = [gaps[name]["mean"][-1] for gaps in (curves, averages)]
        print(f"{name:20} end {last[0]:.3f}  average policy {last[1]:.3f}", flush=True)
    theory = {name: path.astype(np.float32) for name, path in theories(scores, start).items()}
    return {
        "scores": scores.tolist(),
        "start": start.tolist(),
        "winner": _rounded(von_neumann_winner(scores)),
        "methods": curves,
        "average_policy": averages,
        "theory": {name: _rounded(measured(path, scores)) for name, path in theory.items()},
    }


def _spread(gaps: np.ndarray) -> dict:
    """Mean, least and largest over seeds, of gaps [S, T + 1]."""
    return {name: _rounded(f(gaps, axis=0)) for name, f in (("mean", np.mean), ("low", np.min), ("high", np.max))}


def _rounded(values: np.ndarray) -> list[float]:
    return np.asarray(values, np.float64).round(4).tolist()


def one_step(scores: np.ndarray, start: np.ndarray) -> list[dict]:
    """The distance of one update from π_t exp(ŝ/β)/Z, in total variation. Signals are exact; only log Z differs."""
    current = jnp.log(jnp.asarray(start, jnp.float32))
    score = jnp.dot(jnp.asarray(scores, jnp.float32), jnp.exp(current))

    @jax.jit
    @jax.vmap
    def distance(beta, log_Z):
        def loss(logits):
            logprob = jax.nn.log_softmax(logits)
            return jnp.dot(jnp.exp(current), policy.gpo_loss(logprob, current, score, beta=beta, log_partition=log_Z))

        reached = jnp.exp(minimise(loss, current, steps=2000))
        return 0.5 * jnp.sum(jnp.abs(reached - jax.nn.softmax(current + score / beta)))

    @jax.jit
    @jax.vmap
    def centred_distance(beta):
        weight = jnp.exp(current)

        def loss(logits):
            logprob = jax.nn.log_softmax(logits)
            return jnp.dot(
                weight, regression.centred_regression_loss(logprob, current, score, beta=beta, weight=weight)
            )

        reached = jnp.exp(minimise(loss, current, steps=2000))
        return 0.5 * jnp.sum(jnp.abs(reached - jax.nn.softmax(current + score / beta)))

    betas = jnp.array([8.0, 4.0, 2.0, 1.0, 0.5])
    exact = jax.vmap(lambda beta: beta * jax.nn.logsumexp(current + score / beta))(betas)
    printed = jnp.full_like(betas, jax.nn.logsumexp(current + score))
    columns = {"zero": jnp.zeros_like(betas), "printed": printed, "exact": exact}
    distances = {name: _rounded(distance(betas, log_Z)) for name, log_Z in columns.items()}
    distances["centred"] = _rounded(centred_distance(betas))
    rows = zip(betas.tolist(), *distances.values(), strict=True)
    return [dict(zip(("beta", *distances), row, strict=True)) for row in rows]


def main(_: list[str]) -> None:
    began = time.time()
    document = {
        "command": "python benchmarks/bandit.py",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()}-core CPU machine, Python {platform.python_version()}, jax {jax.__version__}",
        "settings": dict(
            prompts=PROMPTS, K=K, iterations=ITERATIONS, seeds=SEEDS, score=SCORE, beta=BETA,
            rate_beta=round(RATE_BETA, 4), mixture=MIXTURE, dpo_beta=DPO_BETA,
        ),
        "games": {},
    }  # fmt: skip
    for name, (scores, start) in games().items():
        print(name, flush=True)
        document["games"][name] = play(scores, start)
    document["one_step"] = one_step(*games()["rock–paper–scissors"])
    document |= last_iterates()
    document["seconds"] = round(time.time() - began)
    out = Path(OUT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(document["one_step"], indent=0, ensure_ascii=False), f"{document['seconds']} s", sep="\n")
    print(style.save(exploitability_curves(document), FIGURE.value))
    print(style.save(last_iterate_curves(document, methods=DRAWN), LAST_FIGURE.value))


if __name__ == "__main__":
    app.run(main)
