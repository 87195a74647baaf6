"""Temperature, top-k, top-p and the draw, compared with sorting and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpmjax.sampling.logits import SamplingPlan, draw, filtered, textless

ROWS = arrays(np.float32, (1, 12), elements=st.floats(-30, 30, width=32))


def support(logits, **plan):
    settings = {"temperature": 1.0, "top_p": 1.0} | plan
    return np.isfinite(np.asarray(filtered(jnp.asarray(logits), SamplingPlan(1, **settings))))


@given(ROWS, st.integers(1, 12))
def test_top_k_keeps_the_k_largest_and_ties(logits, k):
    np.testing.assert_array_equal(support(logits, top_k=k), logits >= np.sort(logits)[:, [-k]])


@given(ROWS, st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_suffices(logits, p):
    probability = scipy.special.softmax(logits.astype(np.float64), axis=-1)[0]
    kept = support(logits, top_p=p)[0]
    # Kept tokens are at least as probable as the others; they suffice, and without the least probable they would not.
    assert probability[kept].min() >= probability[~kept].max(initial=0.0)
    assert probability[kept].sum() >= p - 1e-6
    assert probability[kept & (logits[0] > logits[0][kept].min())].sum() < p + 1e-6


def test_top_k_comes_before_top_p():
    logits = np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32))
    # Among the two likeliest tokens 0.4/0.7 exceeds a half; among all tokens 0.4 does not.
    assert support(logits, top_k=2, top_p=0.5).tolist() == [[True, False, False, False]]
    assert support(logits, top_p=0.5).tolist() == [[True, True, False, False]]
    # At temperature 0.5 the first token has 0.4² / (0.4² + 0.3² + 0.2² + 0.1²) > 0.53.
    assert support(logits, temperature=0.5, top_p=0.5).tolist() == [[True, False, False, False]]


def test_the_largest_numbers_and_excluded_tokens():
    big = np.finfo(np.float32).max
    logits = np.array([[-np.inf, big / 2, -big / 2, 0.0, -0.0]], np.float32)
    assert support(logits, top_k=1).tolist() == [[False, True, False, False, False]]
    assert support(logits, top_k=2).tolist() == [[False, True, False, True, True]]
    assert support(logits, top_p=0.9).tolist() == [[False, True, False, False, False]]


@pytest.mark.parametrize(
    "plan", [SamplingPlan(1, 1.3, 0, 1.0), SamplingPlan(1, 0.7, 9, 0.8)], ids=["all tokens", "top-k and top-p"]
)
def test_frequencies_match_the_softmax(plan):
    draws, logits = 20_000, np.random.default_rng(0).normal(scale=1.5, size=24).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), draws)
    tokens, logprobs = jax.jit(lambda keys: draw(keys, jnp.tile(logits, (draws, 1)), plan))(keys)
    probability = np.asarray(jax.nn.softmax(filtered(jnp.asarray(logits), plan)), np.float64)
    seen = np.bincount(tokens, minlength=24)
    assert not seen[probability == 0].any()
    likely = probability > 0
    assert scipy.stats.chisquare(seen[likely], draws * probability[likely] / probability.sum()).pvalue > 0.01
    np.testing.assert_allclose(np.exp(logprobs), probability[np.asarray(tokens)], rtol=1e-5)


def test_temperature_zero_takes_the_argmax_with_log_probability_zero():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, 30)), jnp.float32)
    tokens, logprobs = draw(jax.random.split(jax.random.key(0), 5), logits, SamplingPlan(1, temperature=0.0))
    np.testing.assert_array_equal(tokens, logits.argmax(-1))
    np.testing.assert_array_equal(logprobs, 0.0)


def test_a_rows_draw_does_not_depend_on_other_rows():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 40)), jnp.float32)
    keys = jax.random.split(jax.random.key(3), 6)
    drawn = jax.jit(lambda keys, logits: draw(keys, logits, SamplingPlan(1, 1.0))[0])
    together = drawn(keys, logits)
    apart = [int(drawn(keys[n : n + 1], logits[n : n + 1])[0]) for n in range(6)]
    assert together.tolist() == apart


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(max_new_tokens=0), "max_new_tokens=0: must be at least 1"),
        (dict(temperature=float("nan")), "temperature=nan"),
        (dict(top_k=-1), "top_k=-1"),
        (dict(top_p=0.0), r"top_p=0.0: must be in \(0, 1\]"),
        (dict(top_p=1.5), "top_p=1.5"),
        (dict(stop_tokens=(3, -1)), r"stop_tokens=\(3, -1\)"),
    ],
)
def test_an_invalid_plan_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SamplingPlan(**({"max_new_tokens": 4} | fields)).validate()


class Vocabulary(dict):
    get_vocab = dict.copy


@pytest.mark.parametrize(
    ("ids", "rows", "ranges"),
    [
        (range(8), 8, ()),
        (range(8), 6, ()),
        (range(6), 8, ((6, 8),)),
        ([1, 2, 5, 9], 8, ((0, 1), (3, 5), (6, 8))),
        ([], 3, ((0, 3),)),
    ],
)
def test_ids_without_a_text(ids, rows, ranges):
    assert textless(Vocabulary({f"t{number}": number for number in ids}), rows) == ranges


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_without_a_text_are_never_drawn(temperature):
    logits = jnp.array([[1.0, 9.0, 2.0, 0.0, 8.0, 8.0]])
    plan = SamplingPlan(1, temperature=temperature, top_p=1.0, textless=((1, 2), (4, 6))).validate()
    kept = np.isfinite(np.asarray(filtered(logits, plan)))[0]
    assert kept.tolist() == ([False, False, True] if temperature == 0 else [True, False, True]) + [
        temperature > 0,
        False,
        False,
    ]
    tokens, logprobs = draw(jax.random.split(jax.random.key(1), 64), jnp.tile(logits, (64, 1)), plan)
    assert set(np.asarray(tokens).tolist()) <= {0, 2, 3}
    expected = scipy.special.log_softmax([1.0, 2.0, 0.0])  # of the remaining tokens
    found = dict(zip(np.asarray(tokens).tolist(), np.asarray(logprobs).tolist(), strict=True))
    for token, value in found.items():
        assert value == pytest.approx(0.0 if temperature == 0 else expected[[0, 2, 3].index(token)], abs=1e-6)


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="textless=.*must be ranges"):
        SamplingPlan(1, textless=((4, 4),)).validate()
