"""The train step's loss, slope and metrics against formulas in numpy: ties, soft targets, margins, uneven weights,
padding.

The model alone is replaced: its outputs are the parameters. So what is tested is all that `batch_totals` and
`batch_loss` make of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gpmjax.arrays import Comparisons, TokenBatch, TokenLayout
from gpmjax.config import LossConfig
from gpmjax.fit.step import batch_loss, batch_totals
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput

B, R, C, T, D, VOCAB, TAU = 2, 3, 6, 5, 3, 7, 0.6

# (chosen, rejected, target, margin, weight) of each row. Row 0: a plain label, a margin, a soft target, a label for
# the other side, a tied label that weighs much, and a real comparison of weight 0. Row 1: a model's tie, a soft one
# for the other side; the rest is padding.
LABELS = [
    [
        (0, 1, 1.0, 0.0, 1.0), (1, 2, 1.0, 0.4, 0.5), (0, 2, 0.8, -0.3, 2.0),
        (2, 1, 0.0, 0.2, 1.5), (1, 0, 0.5, 0.1, 3.0), (2, 0, 1.0, 9.0, 0.0),
    ],
    [(1, 1, 1.0, 0.0, 0.7), (0, 2, 0.3, 0.0, 1.2), *[(0, 0, 0.0, 0.0, 0.0)] * 4],
]  # fmt: skip
LM_WEIGHT = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 1, 0]], np.float32)


class Outputs:
    """Stands in for a model whose parameters are its outputs."""

    class config:
        final_softcap = None

    def __init__(self, kind):
        self.kind = kind

    def apply(self, variables, *inputs, method="__call__"):
        params = variables["params"]
        if method == "encode":
            return params["hidden"]
        mass = params["mass"] if self.kind.endswith("verdict") else None
        if self.kind.startswith("pairwise"):
            return PairwiseOutput(params["read"][..., 0], jnp.float32(TAU), mass)
        read = params["read"] if self.kind == "gpm" else params["read"][..., :1]
        if self.kind == "gpm":
            return PreferenceOutput(read, params["scale"], jnp.float32(TAU), mass)
        return PreferenceOutput(read, None, jnp.float32(TAU), mass, reward=read[..., 0])


def parameters():
    draw = np.random.default_rng(3)
    read, hidden = draw.normal(size=(B, R, 4)), draw.normal(size=(B, T, D))
    scale = np.repeat(draw.uniform(0.3, 2, (B, 1, 2)), R, axis=1)
    shared = {"read": read, "hidden": hidden, "scale": scale, "mass": -draw.random((B, R))}
    return shared | {"decoder": {"embed": {"embedding": draw.normal(size=(VOCAB, D))}}}


def token_batch():
    fields = np.array(LABELS).transpose(2, 0, 1)
    indices, numbers = fields[:2].astype(np.int32), fields[2:].astype(np.float32)
    zeros = np.zeros((B, T), np.int32)
    tokens = np.array([[1, 4, 2, 6, 3], [5, 0, 1, 2, 2]], np.int32)
    previous = np.array([[0, 0, 1, 0, 3], [0, 0, 1, 1, 3]], np.int32)
    ends = np.zeros((B, R), np.int32)
    comparisons = Comparisons(*indices, *numbers, np.zeros((B, C), np.int32))
    return TokenBatch(tokens, TokenLayout(zeros, zeros, zeros), ends, ends, ends == 0, previous, LM_WEIGHT, comparisons)


def cross_entropy(z, t):
    return -t * special.log_expit(z) - (1 - t) * special.log_expit(-z)


def one_comparison(kind, params, config, b, chosen, rejected, target, margin):
    """(score, loss) of a comparison; the formulas of the reward losses' docstrings and papers."""
    smoothed = (1 - config.label_smoothing) * target + config.label_smoothing / 2

    def loss(score, margin, target, smoothed):
        z = (score - margin) / TAU
        if config.objective == "expected_error":
            return target * special.expit(-z) + (1 - target) * special.expit(z)
        return cross_entropy(z, smoothed)

    value = params["read"][b, :, 0]
    if kind == "gpm":
        v, w, scale = params["read"][b, chosen], params["read"][b, rejected], params["scale"][b, chosen]
        score = np.sum(scale * (v[0::2] * w[1::2] - v[1::2] * w[0::2]))
        return score, loss(score, margin, target, smoothed)
    if kind == "bt":
        score = value[chosen] - value[rejected]
        centre = config.centering * (value[chosen] + value[rejected]) ** 2
        return score, loss(score, margin, target, smoothed) + centre
    if kind == "pairwise":
        questions = [
            loss(value[chosen], margin, target, smoothed),
            loss(value[rejected], -margin, 1 - target, 1 - smoothed),
        ]
    else:
        mass = params["mass"][b]
        questions = [cross_entropy(value[chosen] / TAU, smoothed) - mass[chosen]]
        questions += [cross_entropy(value[rejected] / TAU, 1 - smoothed) - mass[rejected]]
    if chosen == rejected and kind.startswith("pairwise"):
        return value[chosen], questions[0]
    score = value[chosen] - value[rejected]
    return score / 2 if kind.startswith("pairwise") else score, questions[0] if chosen == rejected else np.mean(
        questions
    )


def formula(kind, params, batch, config):
    """The metrics that `batch_loss` should give."""
    read = [[one_comparison(kind, params, config, b, *label[:4]) for label in row] for b, row in enumerate(LABELS)]
    scores, losses = np.array(read).transpose(2, 0, 1)
    target, weight = np.array(LABELS)[..., 2], np.array(LABELS)[..., 4]
    preference = np.sum(weight * losses) / np.sum(weight)
    side = np.sign(target - 0.5)
    decided = (weight > 0) & (side != 0)

    def agree(values):
        return np.where(values > 0, 1.0, np.where(values == 0, 0.5, 0.0))

    agreement = agree(side * scores)
    # Labels for the other side must not cancel, or this would not notice that sides are ignored.
    assert np.mean(agreement[decided]) != np.mean(agree(scores)[decided])
    found = {
        "preference_loss": preference,
        "loss": preference,
        "accuracy": np.mean(agreement[decided]),
        "margin": np.sum(weight * side * scores) / np.sum(weight),
        "example_loss": losses,
    }
    if config.lm_coefficient:
        before = np.take_along_axis(params["hidden"], batch.previous[..., None], axis=1)
        logits = before @ params["decoder"]["embed"]["embedding"].T
        logprobs = np.take_along_axis(special.log_softmax(logits, axis=-1), batch.tokens[..., None], axis=-1)[..., 0]
        found["lm_loss"] = -np.sum(LM_WEIGHT * logprobs) / 4  # four tokens of chosen responses
        c = config.lm_coefficient
        found["loss"] = (1 - c) * preference + c * found["lm_loss"]
    return found


CASES = {
    "gpm": ("gpm", LossConfig()),
    "gpm smoothed, with a language model": ("gpm", LossConfig(label_smoothing=0.2, lm_coefficient=0.25)),
    "gpm, expected error": ("gpm", LossConfig(objective="expected_error")),
    "bt": ("bt", LossConfig(label_smoothing=0.1)),
    "bt centred": ("bt", LossConfig(centering=0.07)),
    "pairwise": ("pairwise", LossConfig(label_smoothing=0.1)),
    "pairwise, expected error": ("pairwise", LossConfig(objective="expected_error")),
    "verdict": ("verdict", LossConfig(objective="verdict", label_smoothing=0.1)),
    "pairwise verdict": ("pairwise verdict", LossConfig(objective="verdict")),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_slope_and_metrics_are_the_formulas(name):
    kind, config = CASES[name]
    params, batch = parameters(), token_batch()
    totals = batch_totals(batch, config)
    given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)

    def share(given):
        return batch_loss(Outputs(kind), given, batch, totals, config)

    (loss, metrics), gradient = jax.value_and_grad(share, has_aux=True)(given)
    expected = formula(kind, params, batch, config)
    assert set(metrics) == set(expected)
    assert float(loss) == float(metrics["loss"])
    for field, value in expected.items():
        np.testing.assert_allclose(metrics[field], value, rtol=1e-5, atol=1e-5, err_msg=field)
    # The slope in what is read off every response, by central differences in float64.
    slope = np.zeros_like(params["read"])
    for place in np.ndindex(slope.shape):
        step = np.zeros_like(slope)
        step[place] = 1e-5
        moved = [formula(kind, params | {"read": params["read"] + d}, batch, config)["loss"] for d in (step, -step)]
        slope[place] = (moved[0] - moved[1]) / 2e-5
    assert np.ptp(slope) > 1e-2
    np.testing.assert_allclose(gradient["read"], slope, rtol=1e-3, atol=1e-5)


def test_halves_add_up_to_the_whole():
    """A row alone, divided by the whole batch's totals, is its share: of the loss and of every metric."""
    config = LossConfig(lm_coefficient=0.25)
    batch, params = token_batch(), jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters())
    totals = batch_totals(batch, config)

    def rows(tree, n):
        return jax.tree.map(lambda leaf: leaf[n : n + 1], tree)

    def part(n):
        return {**rows({k: v for k, v in params.items() if k != "decoder"}, n), "decoder": params["decoder"]}

    shares = [batch_loss(Outputs("gpm"), part(n), rows(batch, n), totals, config)[1] for n in range(B)]
    whole = batch_loss(Outputs("gpm"), params, batch, totals, config)[1]
    for name in set(whole) - {"example_loss"}:
        assert float(shares[0][name] + shares[1][name]) == pytest.approx(float(whole[name]), rel=1e-5), name


def test_nothing_counts_in_an_empty_batch():
    batch = token_batch()
    batch = batch._replace(
        comparisons=batch.comparisons._replace(weight=np.zeros((B, C), np.float32)), lm_weight=0 * LM_WEIGHT
    )
    config = LossConfig(lm_coefficient=0.25)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters())
    loss, metrics = batch_loss(Outputs("gpm"), params, batch, batch_totals(batch, config), config)
    assert float(loss) == float(metrics["accuracy"]) == float(metrics["margin"]) == 0.0
