"""Laws of scores and win probabilities, with Bradley–Terry as the scalar case."""

import itertools

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpmjax.preference import operator
from gpmjax.preference.score import (
    bradley_terry_score,
    bt_embedding,
    pairwise_rewards,
    pairwise_scores,
    score,
    win_probability,
)

NUMBERS = st.floats(-8, 8, width=32, allow_subnormal=False)
SHAPES = [(2,), (2, 2, 6)]


@st.composite
def pairs(draw):
    """Two embeddings of one shape, and a scale λ ≥ 0 for each."""
    shape = draw(st.sampled_from(SHAPES))
    left, right = draw(arrays(np.float32, shape, elements=NUMBERS)), draw(arrays(np.float32, shape, elements=NUMBERS))
    blocks = (*shape[:-1], shape[-1] // 2)
    return left, right, draw(arrays(np.float32, blocks, elements=st.floats(0, 4, width=32, allow_subnormal=False)))


GROUPS = st.sampled_from([(1, 2), (2, 3, 6)]).flatmap(lambda s: arrays(np.float32, s, elements=NUMBERS))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def turn(v: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """v with every block turned by its own angle."""
    a, b, cos, sin = v[..., 0::2], v[..., 1::2], np.cos(angles), np.sin(angles)
    return np.stack([cos * a - sin * b, sin * a + cos * b], axis=-1).reshape(v.shape).astype(np.float32)


class ScoreLaws(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @given(pairs())
    def test_skew_symmetric(self, pair):
        left, right, scale = pair
        s = self.variant(score)
        np.testing.assert_allclose(s(left, right, scale), -s(right, left, scale), atol=1e-3, rtol=1e-5)
        np.testing.assert_allclose(s(left, left, scale), 0, atol=1e-3)

    @chex.variants(with_jit=True, without_jit=True)
    @given(pairs())
    def test_bounded_by_the_lengths(self, pair):
        left, right, _ = pair
        lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
        assert np.all(np.abs(self.variant(score)(left, right)) <= lengths * (1 + 1e-5) + 1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    @given(pairs())
    def test_is_the_imaginary_part_of_the_complex_inner_product(self, pair):
        left, right, _ = pair
        z_left, z_right = map(self.variant(operator.to_complex), (left, right))
        inner = np.sum(np.conj(z_left) * np.asarray(z_right), axis=-1)
        np.testing.assert_allclose(self.variant(score)(left, right), inner.imag, atol=1e-3, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @given(pairs())
    def test_gate_is_d_r_d(self, pair):
        left, right, scale = pair
        D_left, D_right = (operator.scale_blocks(side, np.sqrt(scale)) for side in (left, right))
        both_sides = score(D_left, D_right)
        chex.assert_trees_all_close(self.variant(score)(left, right, scale), both_sides, atol=1e-3, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @given(pairs(), st.floats(-4, 4))
    def test_turning_the_blocks_of_both_changes_nothing(self, pair, angle):
        left, right, scale = pair
        angles = angle * np.arange(1, left.shape[-1] // 2 + 1)
        s = self.variant(score)
        chex.assert_trees_all_close(s(turn(left, angles), turn(right, angles), scale), s(left, right, scale), atol=5e-3)

    @chex.variants(with_jit=True, without_jit=True)
    @given(pairs(), st.floats(0.125, 8, width=32))
    def test_probabilities_of_the_two_orders_sum_to_one(self, pair, tau):
        left, right, _ = pair
        P = self.variant(lambda i, j, tau: win_probability(score(i, j), tau))
        np.testing.assert_allclose(np.asarray(P(left, right, tau)) + np.asarray(P(right, left, tau)), 1, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @given(GROUPS)
    def test_one_product_is_all_the_pairs(self, v):
        scale = np.linspace(0.5, 2.0, v.shape[-1] // 2, dtype=np.float32)
        S = np.asarray(self.variant(pairwise_scores)(v, scale))
        items = v.shape[-2]
        chex.assert_shape(S, (*v.shape[:-1], items))
        for i, j in itertools.product(range(items), repeat=2):
            np.testing.assert_allclose(S[..., i, j], score(v[..., i, :], v[..., j, :], scale), atol=1e-3, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @given(arrays(np.float32, (3, 4), elements=NUMBERS), st.sampled_from([1.0, -1.0, 0.5, -2.0]))
    def test_bradley_terry_is_a_special_case_with_the_sign_of_c(self, reward, c):
        S = self.variant(lambda r: pairwise_scores(bt_embedding(r, c)))(reward)
        np.testing.assert_allclose(S, c * np.asarray(pairwise_rewards(reward)), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_vmap_gives_what_a_loop_gives(shape):
    left, right = normal(2, 5, *shape)
    np.testing.assert_allclose(
        jax.vmap(score)(left, right), [score(*pair) for pair in zip(left, right, strict=True)], atol=1e-6
    )
    groups = np.stack([left, right], axis=-2)
    looped = [pairwise_scores(group) for group in groups]
    np.testing.assert_allclose(jax.vmap(pairwise_scores)(groups), looped, atol=1e-6)


def test_the_sign_is_that_of_equation_4_2():
    v_i, v_j = jnp.array([2.0, 3.0]), jnp.array([5.0, 7.0])
    assert float(score(v_i, v_j)) == 2 * 7 - 3 * 5


def test_on_the_circle_the_score_is_the_sine_of_the_angle_ahead():
    angles = np.linspace(-3, 3, 7, dtype=np.float32)
    v = operator.from_complex(np.exp(1j * angles).astype(np.complex64)[:, None])
    np.testing.assert_allclose(pairwise_scores(v), np.sin(angles[None, :] - angles[:, None]), atol=1e-6)


def test_items_with_scales_of_their_own_meet_at_the_mean():
    v, scale = normal(4, 6), np.abs(normal(4, 3))
    found = np.asarray(pairwise_scores(v, scale))
    expected = [[score(v[i], v[j], (scale[i] + scale[j]) / 2) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found, -found.T)


def test_scale_may_be_the_prompts_shared_or_per_item():
    v, scale = normal(3, 4, 6), np.abs(normal(3, 3))
    per_prompt = pairwise_scores(v, scale)
    per_item = np.broadcast_to(scale[:, None], (3, 4, 3))
    np.testing.assert_allclose(per_prompt, pairwise_scores(v, per_item), atol=1e-6)
    np.testing.assert_allclose(per_prompt, [pairwise_scores(v[b], scale[b]) for b in range(3)], atol=1e-6)
    np.testing.assert_allclose(pairwise_scores(v, scale[0]), pairwise_scores(v, np.tile(scale[:1], (3, 1))), atol=1e-6)
    np.testing.assert_allclose(pairwise_scores(v, np.ones(3, np.float32)), pairwise_scores(v), atol=1e-6)


def test_the_gate_has_a_finite_gradient_where_it_is_shut():
    v = normal(4, 6)
    gradient = jax.grad(lambda scale: jnp.sum(pairwise_scores(v, scale) ** 2))(jnp.zeros(3))
    chex.assert_tree_all_finite(gradient)


def test_scores_are_float32_from_bfloat16():
    v = jnp.ones((2, 4), jnp.bfloat16)
    scale = jnp.ones(2, jnp.bfloat16)
    general = score(v, v, scale), pairwise_scores(v, scale), win_probability(v[0], 0.1)
    scalar = bradley_terry_score(v, v), pairwise_rewards(v[0]), bt_embedding(v[0])
    assert {value.dtype for value in general + scalar} == {jnp.dtype(jnp.float32)}


def test_a_learned_temperature_gets_its_gradient():
    slope = jax.grad(lambda log_tau: win_probability(jnp.array(1.0), jnp.exp(log_tau)))(jnp.array(0.0))
    assert slope < 0  # a higher temperature moves P towards ½


TRAP = jnp.ones((4, 1)), jnp.ones(4)  # [B, 1] − [B] would be [B, B]


@pytest.mark.parametrize("left, right", [TRAP, TRAP[::-1], (TRAP[1], jnp.ones(3)), (TRAP[0], jnp.ones((1, 4)))])
def test_rewards_of_different_shapes_are_not_broadcast(left, right):
    with pytest.raises(ValueError, match=r"left \[.*\] and right \[.*\] must have the same shape"):
        bradley_terry_score(left, right)


# With --jaxtyping-packages, jaxtyping checks the annotations and raises its own error first.
REFUSED = (ValueError, jaxtyping.TypeCheckError)


@pytest.mark.parametrize("left, right", [((4, 1, 2), (4, 2)), ((4, 2), (2,)), ((4, 2), (3, 2)), ((4, 2), (4, 4))])
def test_embeddings_of_different_shapes_are_not_broadcast(left, right):
    with pytest.raises(REFUSED, match="right"):
        score(jnp.ones(left), jnp.ones(right))


def test_a_tau_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"tau \[4\] must be a scalar or have the shape of score \[4, 1\]"):
        win_probability(*TRAP)


@pytest.mark.parametrize("function", [lambda v: score(v, v), lambda v: pairwise_scores(v)])
def test_odd_embeddings_are_refused(function):
    with pytest.raises(ValueError, match="even last dimension"):
        function(jnp.ones((2, 3)))


def test_a_single_embedding_a_wrong_scale_and_c_0_are_refused():
    with pytest.raises(REFUSED, match="K"):
        pairwise_scores(jnp.ones(4))
    with pytest.raises(ValueError, match="scale"):
        pairwise_scores(jnp.ones((3, 4)), jnp.ones(3))
    with pytest.raises(ValueError, match="c=0: must not be 0"):
        bt_embedding(jnp.ones(2), 0.0)
