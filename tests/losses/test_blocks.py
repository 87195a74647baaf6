"""Block advantages are normalised per block; the monitor reports a block that takes over."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.losses.blocks import block_advantages, block_mean_scores, block_shares, drift_correction
from gpmjax.losses.signals import group_advantages, mean_score
from gpmjax.preference.score import pairwise_scores

BATCH, K, BLOCKS = 3, 6, 4


def inputs():
    rng = np.random.default_rng(0)
    v = rng.normal(size=(BATCH, K, 2 * BLOCKS)).astype(np.float32)
    return v, rng.dirichlet(np.ones(BLOCKS), size=BATCH).astype(np.float32)


def enlarged(v: np.ndarray, block: int, factor: float) -> np.ndarray:
    v = v.copy()
    v[..., 2 * block : 2 * block + 2] *= factor
    return v


def test_block_mean_scores_add_up_to_the_mean_score():
    v, scale = inputs()
    total = np.sum(block_mean_scores(v) * scale[:, None, :], axis=-1)
    np.testing.assert_allclose(total, mean_score(pairwise_scores(v, scale)), atol=1e-5)


def test_one_block_is_grpo():
    v = inputs()[0][..., :2]
    expected = group_advantages(mean_score(pairwise_scores(v)))
    np.testing.assert_allclose(block_advantages(v, np.ones((BATCH, 1), np.float32)), expected, atol=1e-5)


def test_a_blocks_weight_does_not_depend_on_the_size_of_its_scores():
    v, scale = inputs()
    np.testing.assert_allclose(block_advantages(enlarged(v, 2, 30.0), scale), block_advantages(v, scale), atol=2e-3)

    def scalar(v):
        return np.asarray(group_advantages(mean_score(pairwise_scores(v, scale))))

    assert np.max(np.abs(scalar(enlarged(v, 2, 30.0)) - scalar(v))) > 0.5  # GRPO's weight does


def test_the_prompts_eigenvalues_are_the_weights():
    v, _ = inputs()
    only = np.zeros((BATCH, BLOCKS), np.float32)
    only[:, 1] = 1.0
    np.testing.assert_allclose(block_advantages(v, only), group_advantages(block_mean_scores(v)[..., 1]), atol=1e-5)
    multiplier = np.array([0.0, 2.0, 0.0, 0.0], np.float32)
    np.testing.assert_allclose(
        block_advantages(v, np.ones_like(only), multiplier=multiplier), 2 * block_advantages(v, only), atol=1e-5
    )


def test_advantages_of_a_group_have_mean_zero():
    np.testing.assert_allclose(np.mean(block_advantages(*inputs()), axis=-1), np.zeros(BATCH), atol=1e-5)
    chex.assert_trees_all_equal(block_advantages(jnp.ones((K, 2))), jnp.zeros(K))


def test_shares_follow_the_block_that_varies():
    v, scale = inputs()
    before, after = (np.asarray(block_shares(x, scale)) for x in (v, enlarged(v, 2, 3.0)))
    assert before.sum() == pytest.approx(1) and after.sum() == pytest.approx(1)
    assert after[2] > before[2] and np.all(np.delete(after - before, 2) < 0)
    np.testing.assert_allclose(block_shares(np.ones_like(v), scale), np.full(BLOCKS, 1 / BLOCKS))


def test_the_monitor_changes_nothing_until_one_block_takes_over():
    initial = jnp.full(BLOCKS, 1 / BLOCKS)
    calm = drift_correction(jnp.array([0.3, 0.25, 0.25, 0.2]), initial)
    assert 0 < float(calm.drift) < 0.1 and float(calm.tightening) == 1
    chex.assert_trees_all_equal(calm.multiplier, jnp.ones(BLOCKS))
    hacked = drift_correction(jnp.array([0.85, 0.05, 0.05, 0.05]), initial)
    assert float(hacked.drift) > 0.1 and float(hacked.tightening) > 1
    assert float(hacked.multiplier[0]) < 0.1 < 1 < float(hacked.multiplier[1])
    assert float(jnp.mean(hacked.multiplier)) == pytest.approx(1)
    measured = drift_correction(jnp.array([0.85, 0.05, 0.05, 0.05]), initial, strength=0.0)
    chex.assert_trees_all_equal((measured.multiplier, measured.tightening), (jnp.ones(BLOCKS), jnp.float32(1)))


def test_a_share_that_falls_to_zero_gives_finite_corrections():
    correction = drift_correction(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    chex.assert_tree_all_finite(tuple(correction))


@pytest.mark.parametrize(
    "options", [{"scale": np.ones((BATCH, 3), np.float32)}, {"multiplier": np.ones(3, np.float32)}]
)
def test_weights_must_have_one_number_per_block(options):
    with pytest.raises(ValueError, match=r"\[.*3\] .*must have the same shape"):
        block_advantages(inputs()[0], **options)
