"""Every method, from the stages' rows to the loss and its slope, against the papers' formulas written in numpy.

The wiring is the library's own: rows of samples, scores and log-probabilities → `scored_samples` → `signals` →
`training_examples` → `assemble_policy` → `policy_batch_loss`. The policy alone is replaced, by a table of one
log-probability a token id, so that the formulas below can be evaluated, and differentiated, without the library. To
add a method, add its formula to `FORMULAS` and its options to `CASES`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from scipy import special

from gpmjax.config.improve import METHODS, PAIRWISE, PolicyLossConfig
from gpmjax.improve import step as policy_step
from gpmjax.improve import tables
from gpmjax.improve.batch import assemble_policy, fit_policy_shape
from gpmjax.improve.data import scored_samples, training_examples
from gpmjax.improve.signals import block_drift, signals
from gpmjax.improve.stages import Samples

TAU, BETA, K, VOCAB = 0.25, 0.7, 4, 64
LENGTHS = ((1, 4, 2, 3), (2, 2, 5, 1), (3, 1, 1, 2))
LEVEL = np.random.default_rng(7).uniform(-2.5, -0.2, VOCAB)
"""log π_θ of every token id: the policy that trains."""


def stages(seed=0):
    """Rows as the stages leave them: three prompts with four responses each, no token id twice within a prompt."""
    draw = np.random.default_rng(seed)
    sampled, scores, current, base = [], [], [], []
    for n, lengths in enumerate(LENGTHS):
        ids = 2 + draw.permutation(VOCAB - 2)[: sum(lengths)]
        responses = [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]
        embedding = draw.normal(size=(K, 4)).astype(np.float32)
        if n == 2:
            embedding[2] = embedding[1]  # a tie between two of the four
        scale = draw.uniform(0.2, 1.5, 2).astype(np.float32)
        sampled.append({"prompt_id": 10 + n, "prompt_tokens": list(range(2, 5 + n)), "response_tokens": responses})
        scores.append({"scores": gpm(embedding, scale), "tau": TAU, "embedding": embedding, "scale": scale})
        current.append({"logprobs": near(draw, responses, 0.4)})
        base.append({"logprobs": near(draw, responses, 0.9)})
    return sampled, scores, current, base


def near(draw, responses, width):
    """log π of every token, within ``width`` of the policy that trains."""
    return [list(LEVEL[tokens] + draw.uniform(-width, width, len(tokens))) for tokens in responses]


def as_read(sampled, scores, *policies):
    """The rows as the stages give them, read from their files."""

    def tables_of(rows, schema):
        return pa.Table.from_pylist(rows, schema=schema)

    scores = [row | {name: list(row[name]) for name in ("scores", "embedding", "scale")} for row in scores]
    logprobs = [tables.Ragged.of(tables_of(rows, tables.LOGPROBS)["logprobs"]) for rows in policies]
    return Samples.of(tables_of(sampled, tables.SAMPLES)), tables_of(scores, tables.SCORES), *logprobs


def gpm(embedding, scale):
    """s(i ≻ j) = Σ_l λ_l (v_i[2l] v_j[2l+1] − v_i[2l+1] v_j[2l])."""
    x, y = embedding[:, 0::2].astype(float), embedding[:, 1::2].astype(float)
    return np.einsum("il,jl,l->ij", x, y, scale) - np.einsum("il,jl,l->ij", y, x, scale)


class Prompt:
    """What is known of one prompt's responses, in float64, under the options of a case."""

    def __init__(self, rows, n, level, options):
        sampled, scores, current, base = (part[n] for part in rows)
        self.tokens = [level[np.array(tokens)] for tokens in sampled["response_tokens"]]
        self.old = [np.array(tokens, np.float32).astype(float) for tokens in current["logprobs"]]

        def sums(parts):
            return np.array([np.sum(part) for part in parts])

        self.theta, self.t = sums(self.tokens), sums(self.old)
        self.ref = sums([np.array(tokens, np.float32) for tokens in base["logprobs"]])
        if "others" in options:  # a reference that has moved, and the policy before this one
            self.ref, self.previous = options["others"][:, n]
        self.ratio = self.theta - self.t
        self.lengths = np.array([len(tokens) for tokens in self.tokens])
        factor = options.get("score_factor", 1.0)
        self.log_odds = factor * scores["scores"] / TAU
        self.embedding, self.scale = scores["embedding"].astype(float), scores["scale"].astype(float)
        self.mean = (factor * scores["scores"] if options.get("score") == "score" else self.log_odds).mean(axis=1)
        self.options = options

    def __getattr__(self, name):
        return self.options[name] if name in self.options else getattr(PolicyLossConfig, name)

    def log_z(self, signal, otherwise):
        """β log 1/K Σ_k exp(signal_k/β)."""
        if self.options.get("log_partition") != "estimate":
            return otherwise
        return BETA * np.log(np.mean(np.exp(signal / BETA)))

    def squared(self, residual):
        """Squares of residuals; centred by default, over the responses that count."""
        if self.log_partition == "centred":
            residual = residual - np.sum(self.weight * residual) / np.sum(self.weight)
        return residual**2

    def surrogate(self, advantages, reduce):
        """PPO's clipped objective, and k3 of KL(π_θ‖π_t), over a response's tokens."""
        clip, kl = self.clip / self.tightening, self.kl * self.tightening
        losses = []
        for log_pi, log_old, advantage in zip(self.tokens, self.old, advantages, strict=True):
            rho = np.exp(log_pi - log_old)
            gain = np.minimum(rho * advantage, np.clip(rho, 1 - clip, 1 + clip) * advantage)
            k3 = np.exp(log_old - log_pi) - 1 - (log_old - log_pi)
            losses.append(-reduce(gain) + kl * np.mean(k3))
        return np.array(losses)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def standardised(x):
    return (x - x.mean()) / (x.std() + 1e-4)


def gpo(p):
    return p.squared(p.ratio - (p.mean - p.log_z(p.mean, 0.0)) / BETA)


def sppo(p):
    rate = sigmoid(p.log_odds).mean(axis=1)
    return p.squared(p.ratio - (rate - p.log_z(rate, 0.5)) / BETA)


def nash_md(p):
    weight = np.exp(p.mixture * (p.ref - p.t))
    rate = sigmoid(p.log_odds) @ (weight / weight.sum())
    opponent = (1 - p.mixture) * p.t + p.mixture * p.ref
    return p.squared(p.theta - opponent - (rate - p.log_z(rate, 0.5)) / BETA)


def comal(p):
    P = sigmoid(p.log_odds)
    rate = P.mean(axis=1)
    if p.optimistic:
        weight = np.exp(p.previous - p.t)
        rate = rate + (1 - p.mixture) * (rate - P @ (weight / weight.sum()))
    return p.squared(p.theta - (1 - p.mixture) * p.t - p.mixture * p.ref - (rate - 0.5) / BETA)


def gprl(p):
    advantage = np.zeros(K)
    for block in range(2):
        part = p.embedding[:, 2 * block : 2 * block + 2]
        advantage += p.multiplier[block] * p.scale[block] * standardised(gpm(part, np.ones(1)).mean(axis=1))
    return p.surrogate(advantage, np.mean)


def pairs(loss):
    """A loss of h_ij = r_i − r_j, i chosen."""
    return lambda p: loss(p, p.ratio[:, None] - p.ratio[None, :])


def dpo(p, h):
    flipped = p.label_smoothing
    return -(1 - flipped) * special.log_expit(BETA * h) - flipped * special.log_expit(-BETA * h)


def ipo(p):
    each = p.ratio / p.lengths if p.ipo_logprob == "mean" else p.ratio
    return (each[:, None] - each[None, :] - 0.5 / BETA) ** 2


FORMULAS = {
    "gpo": gpo,
    "sppo": sppo,
    "nash_md": nash_md,
    "comal": comal,
    "ppo": lambda p: p.surrogate(p.mean - p.mean.mean(), np.sum),
    "grpo": lambda p: p.surrogate(standardised(p.mean), np.mean),
    "gprl": gprl,
    "sppo_hard": lambda p: (p.ratio[:, None] - 0.5 / BETA) ** 2 + (p.ratio[None, :] + 0.5 / BETA) ** 2,
    "dpo": pairs(dpo),
    "ipo": ipo,
    "rebel": pairs(lambda p, h: (BETA * h - (p.mean[:, None] - p.mean[None, :])) ** 2),
}


def weights(p, method, estimator):
    """How often each response, or each pair (chosen i, rejected j), counts."""
    best, worst = np.argmax(p.log_odds.mean(axis=1)), np.argmin(p.log_odds.mean(axis=1))
    one = np.eye(K)
    if method in PAIRWISE:
        parts = {"all": (p.log_odds > 1e-5).astype(float), "best_and_worst": np.outer(one[best], one[worst])}
    else:
        parts = {"all": np.ones(K), "best_and_worst": one[best] + one[worst]}
    return parts[estimator] if estimator in parts else parts["all"] + parts["best_and_worst"]


CASES = [(method, {"estimator": estimator}) for method in FORMULAS for estimator in ("all", "best_and_worst", "both")]
CASES = [(m, options) for m, options in CASES if m not in ("ppo", "grpo", "gprl") or options["estimator"] == "all"]
CASES += [(method, {"score": "score"}) for method in ("gpo", "rebel", "sppo", "ppo", "dpo")]
CASES += [(method, {"log_partition": "estimate"}) for method in ("gpo", "sppo", "nash_md")]
CASES += [
    (m, {"log_partition": "zero", "estimator": e})
    for m in ("gpo", "sppo", "nash_md")
    for e in ("all", "best_and_worst")
]
CASES += [("nash_md", {"moved": True, "mixture": 0.4}), ("comal", {"moved": True, "mixture": 0.4})]
CASES += [("comal", {"optimistic": True, "moved": True, "estimator": e}) for e in ("all", "best_and_worst")]
CASES += [(method, {"kl": 0.3, "clip": 0.1}) for method in ("ppo", "grpo", "gprl")]
CASES += [(method, {"score_factor": 2.0}) for method in ("gpo", "sppo", "nash_md", "rebel", "ppo")]
CASES += [("gpo", {"score": "score", "score_factor": 2.0}), ("ipo", {"ipo_logprob": "mean"})]
CASES += [("nash_md", {"mixture": 0.6}), ("dpo", {"label_smoothing": 0.2}), ("gprl", {"kl": 0.3, "drifted": True})]
NAMES = [" ".join([method, *(f"{name}={value}" for name, value in options.items())]) for method, options in CASES]


def released_signals(scores):
    """ŝ and P̂ as the released scoring code makes them: s/τ is entered at both places of a table, which is then read
    twice."""
    table, count = np.zeros((K, K)), range(K)
    for i in count:
        for j in range(i + 1, K):
            table[i, j], table[j, i] = scores[i, j] / TAU, -scores[i, j] / TAU
    read = np.array([[table[i, j] - table[j, i] for j in count] for i in count])
    return read.mean(axis=1), sigmoid(read).mean(axis=1)


def test_a_factor_of_two_is_the_released_scoring_code():
    rows = stages()
    scores = rows[1]
    scored = scored_samples(*as_read(*rows)[1:])
    for method, place in (("gpo", 0), ("sppo", 1)):
        for factor, same in ((2.0, True), (1.0, False)):
            found = signals(scored, PolicyLossConfig(method=method, estimator="all", score_factor=factor)).signal
            expected = np.array([released_signals(row["scores"])[place] for row in scores])
            assert np.allclose(found, expected, rtol=1e-4, atol=1e-5) == same


@pytest.mark.parametrize("noise", [0.0, 1e-7], ids=["a cycle", "a cycle, rounded"])
@pytest.mark.parametrize("method", FORMULAS)
def test_a_prompt_whose_signals_are_all_equal_is_left_out(method, noise):
    """Prompt 90 has four times one text; 91 a cycle of four, opposite places tied, in which each loses as much as it
    wins."""
    rows, draw = stages(), np.random.default_rng(2)
    cycle = np.tile(np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32), 2)
    for prompt_id, embedding in ((90, np.ones((K, 4), np.float32)), (91, cycle)):
        scores = gpm(embedding, np.ones(2)) + noise * draw.normal(size=(K, K))
        scores = np.zeros((K, K)) if prompt_id == 90 else (scores - scores.T) / 2
        extra = [dict(part[0]) for part in rows]
        extra[0]["prompt_id"] = prompt_id
        extra[1] |= {"scores": scores, "embedding": embedding, "scale": np.ones(2, np.float32)}
        for part, row in zip(rows, extra, strict=True):
            part.append(row)
    for estimator in ("all",) if method in ("ppo", "grpo", "gprl") else ("all", "best_and_worst", "both"):
        config = PolicyLossConfig(method=method, estimator=estimator, beta=BETA)
        sampled, scores, current, base = as_read(*rows)
        found = signals(scored_samples(scores, current, base), config)
        kept = [example.prompt_id for example in training_examples(sampled, current, base, found)]
        assert not found.counts[3].any()
        if method == "nash_md":
            assert kept == [
                10,
                11,
                12,
                91,
            ]  # its opponent is not the mean of the samples: in the cycle there is a signal
        elif method in ("sppo_hard", "dpo", "ipo") and estimator != "best_and_worst":
            assert kept == [10, 11, 12, 91]  # who wins a pair is decided; each response is chosen and rejected once
            chosen, rejected = found.pair_weight[4].sum(axis=1), found.pair_weight[4].sum(axis=0)
            assert chosen.tolist() == rejected.tolist() == [1.0] * K
        else:
            assert kept == [10, 11, 12] and not found.response_weight[4].any() and not found.pair_weight[4].any()


def test_every_method_has_its_formula():
    assert set(FORMULAS) == set(METHODS) == {method for method, _ in CASES}


@pytest.mark.parametrize(("method", "options"), CASES, ids=NAMES)
def test_loss_and_slope_are_the_formulas(method, options, monkeypatch):
    options = {"estimator": "all"} | options
    drifted, moved = options.pop("drifted", False), options.pop("moved", False)
    config = PolicyLossConfig(method=method, beta=BETA, **options)
    rows, others = stages(), {}
    if moved:
        others = {"reference": stages(seed=1)[3], "previous": stages(seed=2)[3]}

        def sums(row):
            return [np.sum(np.array(tokens, np.float32)) for tokens in row["logprobs"]]

        options["others"] = np.array([[sums(row) for row in rows] for rows in others.values()])
    sampled, scores, current, base, *more = as_read(*rows, *others.values())
    scored = scored_samples(scores, current, base, *more)
    drift = block_drift(scored, np.array([0.05, 0.95], np.float32)) if drifted else None
    assert not drifted or (drift.tightening > 1.2 and np.ptp(drift.multiplier) > 0.3)
    options |= (
        {"tightening": drift.tightening, "multiplier": drift.multiplier}
        if drifted
        else {"tightening": 1.0, "multiplier": np.ones(2)}
    )
    examples = training_examples(sampled, current, base, signals(scored, config, drift))
    batch = assemble_policy(examples[::-1], fit_policy_shape(examples, 4))

    def response_logprobs(model, params, batch):
        ids = jnp.take_along_axis(jnp.asarray(batch.tokens), jnp.asarray(batch.slots).reshape(4, -1), axis=1)
        return jnp.where(batch.mask, params[ids].reshape(batch.mask.shape), 0.0)

    monkeypatch.setattr(policy_step, "response_logprobs", response_logprobs)
    totals = policy_step.policy_batch_totals(batch, config)
    tightening = options["tightening"]

    def share(level):
        return policy_step.policy_batch_loss(None, level, batch, totals, config, tightening)

    (loss, metrics), gradient = jax.value_and_grad(share, has_aux=True)(jnp.asarray(LEVEL, jnp.float32))

    def formula(level):
        prompts = [Prompt(rows, n, level, options) for n in range(len(LENGTHS))]
        weight = [weights(p, method, options["estimator"]) for p in prompts]
        for p, w in zip(prompts, weight, strict=True):
            p.weight = w
        by_prompt = [np.sum(w * FORMULAS[method](p)) for p, w in zip(prompts, weight, strict=True)]
        return np.array(by_prompt), np.sum(by_prompt) / np.sum(weight)

    by_prompt, expected = formula(LEVEL)
    np.testing.assert_allclose(metrics["example_loss"], [*by_prompt[::-1], 0.0], rtol=2e-4, atol=2e-5)
    assert batch.row.tolist() == [12, 11, 10, -1]
    assert float(loss) == pytest.approx(expected, rel=1e-4) == float(metrics["loss"])
    # The slope along every token's log-probability, by central differences in float64.
    step = 1e-5 * np.eye(VOCAB)
    slope = [(formula(LEVEL + d)[1] - formula(LEVEL - d)[1]) / 2e-5 for d in step]
    assert np.ptp(slope) > 1e-2
    np.testing.assert_allclose(gradient, slope, rtol=2e-3, atol=2e-4)
