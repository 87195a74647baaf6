"""Laws of the hybrid score: it nests Bradley–Terry and general models; scores split into reward and curl."""

import hypothesis
import hypothesis.extra.numpy as numpy_strategies
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.preference import hybrid
from gpmjax.preference.score import pairwise_rewards, pairwise_scores

FLOATS = st.floats(-3, 3, width=32)


@st.composite
def cases(draw):
    """Rewards [K], embeddings [K, 2k], gate [k], weights [K]."""
    count, blocks = draw(st.sampled_from([(2, 1), (5, 3)]))  # few shapes, since each one is compiled

    def arrays(shape, values=FLOATS):
        return draw(numpy_strategies.arrays(np.float32, shape, elements=values))

    positive = st.floats(0.125, 2, width=32)
    return arrays(count), arrays((count, 2 * blocks)), arrays(blocks, positive), arrays(count, positive)


def joint(reward, cyclic, scale, gamma):
    """The hybrid's scores, computed as a general preference model of k + 1 blocks."""
    return pairwise_scores(hybrid.hybrid_embedding(reward, cyclic), hybrid.hybrid_scale(scale, gamma))


@hypothesis.given(cases(), st.sampled_from([0.0, 0.25, 1.0]))
def test_score_is_reward_difference_plus_weighted_cyclic_score(case, gamma):
    reward, cyclic, scale, _ = case
    scores = joint(reward, cyclic, scale, gamma)
    expected = pairwise_rewards(reward) + gamma * pairwise_scores(cyclic, scale)
    np.testing.assert_allclose(scores, expected, atol=1e-5 * (1 + np.abs(expected).max()))
    np.testing.assert_allclose(scores, -scores.T, atol=1e-5 * (1 + np.abs(expected).max()))


@hypothesis.given(cases())
def test_bradley_terry_and_general_models_are_nested(case):
    reward, cyclic, scale, _ = case
    bt, gpm = np.asarray(pairwise_rewards(reward)), np.asarray(pairwise_scores(cyclic, scale))
    close = dict(atol=1e-5 * (1 + max(np.abs(bt).max(), np.abs(gpm).max())))
    np.testing.assert_allclose(joint(reward, np.zeros_like(cyclic), scale, 1.0), bt, **close)
    np.testing.assert_allclose(joint(reward, cyclic, scale, 0.0), bt, **close)
    np.testing.assert_allclose(joint(np.zeros_like(reward), cyclic, scale, 1.0), gpm, **close)


@hypothesis.given(cases())
def test_scores_are_a_reward_and_an_orthogonal_curl(case):
    _, v, scale, weight = case
    scores = np.asarray(pairwise_scores(v, scale), np.float64)
    size = 1 + np.abs(scores).max()
    f = np.asarray(hybrid.reward_within(v, scale, weight), np.float64)
    curl = np.asarray(hybrid.curl_scores(v, scale, weight), np.float64)
    np.testing.assert_allclose(pairwise_rewards(f) + curl, scores, atol=1e-5 * size)
    w = np.asarray(weight, np.float64) / weight.sum()
    pairs = w[:, None] * w[None, :]
    assert abs(np.sum(pairs * (f[:, None] - f[None, :]) * curl)) < 1e-5 * size**2
    np.testing.assert_allclose(curl @ w, 0, atol=1e-5 * size)
    np.testing.assert_allclose(hybrid.curl_energy(v, scale, weight), np.sum(pairs * curl**2), atol=1e-5 * size**2)


@hypothesis.given(cases(), st.booleans())
def test_adding_a_reward_leaves_the_curl_as_it_is(case, weighted):
    reward, cyclic, scale, weight = case
    weight = weight if weighted else None
    with_reward = hybrid.hybrid_embedding(reward, cyclic), hybrid.hybrid_scale(scale, 1.0), weight
    size = 1 + np.abs(pairwise_scores(cyclic, scale)).max() + np.abs(reward).max()
    np.testing.assert_allclose(
        hybrid.curl_scores(*with_reward), hybrid.curl_scores(cyclic, scale, weight), atol=1e-5 * size
    )
    np.testing.assert_allclose(
        hybrid.curl_energy(*with_reward), hybrid.curl_energy(cyclic, scale, weight), atol=1e-5 * size**2
    )


def test_two_responses_have_no_curl_and_batches_are_separate():
    v = np.random.default_rng(0).normal(size=(3, 2, 6)).astype(np.float32)
    scale = np.array([[1, 2, 3], [0, 0, 1], [0.5, 0.5, 0.5]], np.float32)
    np.testing.assert_allclose(hybrid.curl_energy(v, scale), np.zeros(3), atol=1e-6)
    v = np.random.default_rng(1).normal(size=(3, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(
        hybrid.curl_energy(v, scale),
        [hybrid.curl_energy(one, gate) for one, gate in zip(v, scale, strict=True)],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        hybrid.curl_scores(v, scale)[1], hybrid.curl_scores(v[1], scale[1]), rtol=1e-5, atol=1e-6
    )


def test_the_reward_within_is_the_mean_score():
    v = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_allclose(hybrid.reward_within(v), np.mean(pairwise_scores(v), axis=1), atol=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"reward \[2\] and cyclic \[3\] must have the same shape"):
        hybrid.hybrid_embedding(jnp.ones(2), jnp.ones((3, 4)))
    with pytest.raises(ValueError, match="K responses of one prompt"):
        hybrid.curl_energy(jnp.ones(4))
    with pytest.raises(ValueError, match="weight"):
        hybrid.curl_energy(jnp.ones((3, 4)), weight=jnp.ones(4))
