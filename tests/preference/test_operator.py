"""Laws of R, of the gate, and of the canonical and complex forms. Expected values are computed in numpy."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpmjax.preference import operator
from gpmjax.preference.embed import canonical_basis

NUMBERS = st.floats(-8, 8, width=32, allow_subnormal=False)
VECTORS = st.sampled_from([(2,), (3, 4), (2, 1, 6)]).flatmap(lambda shape: arrays(np.float32, shape, elements=NUMBERS))
SIZES = [2, 6]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def random_orthogonal(size: int, *batch: int) -> np.ndarray:
    return np.linalg.qr(normal(*batch, size, size))[0]


class OperatorLaws(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @given(VECTORS)
    def test_twice_is_minus_the_identity(self, v):
        rotate = self.variant(operator.rotate)
        chex.assert_trees_all_equal(rotate(rotate(v)), jnp.asarray(-v))

    @chex.variants(with_jit=True, without_jit=True)
    @given(VECTORS)
    def test_preserves_magnitude_and_is_at_right_angles(self, v):
        rotated = np.asarray(self.variant(operator.rotate)(v))
        np.testing.assert_allclose(np.sum(rotated**2, -1), np.sum(v**2, -1), rtol=1e-6)
        np.testing.assert_allclose(np.sum(rotated * v, -1), 0, atol=1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    @given(VECTORS)
    def test_is_multiplication_by_i(self, v):
        turned = self.variant(lambda x: operator.from_complex(jnp.complex64(1j) * operator.to_complex(x)))(v)
        chex.assert_trees_all_equal(turned, operator.rotate(v))

    @chex.variants(with_jit=True, without_jit=True)
    @given(VECTORS)
    def test_from_complex_inverts_to_complex(self, v):
        there_and_back = self.variant(lambda x: operator.from_complex(operator.to_complex(x)))
        chex.assert_trees_all_equal(there_and_back(v), jnp.asarray(v))

    @chex.variants(with_jit=True, without_jit=True)
    @given(VECTORS)
    def test_commutes_with_the_gate(self, v):
        scale = np.linspace(0, 2, v.shape[-1] // 2, dtype=np.float32)
        gate = self.variant(lambda x: operator.scale_blocks(x, scale))
        chex.assert_trees_all_equal(gate(operator.rotate(v)), operator.rotate(gate(v)))


@pytest.mark.parametrize("size", SIZES)
def test_matrix_is_rotate(size):
    R = np.asarray(operator.operator_matrix(size // 2))
    v = normal(5, size)
    np.testing.assert_allclose(v @ R.T, operator.rotate(v), atol=1e-6)
    np.testing.assert_array_equal(R.T, -R)
    np.testing.assert_array_equal(R.T @ R, np.eye(size))


@pytest.mark.parametrize("size", SIZES)
def test_canonical_form_is_skew_and_preserves_magnitude(size):
    U = random_orthogonal(size, 3)
    R = np.asarray(operator.from_canonical(U))
    transposed = R.swapaxes(-1, -2)
    np.testing.assert_allclose(R, U @ np.asarray(operator.operator_matrix(size // 2)) @ U.swapaxes(-1, -2), atol=1e-5)
    np.testing.assert_allclose(transposed, -R, atol=1e-6)
    np.testing.assert_allclose(transposed @ R, np.broadcast_to(np.eye(size), R.shape), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_every_skew_magnitude_preserving_operator_has_a_canonical_form(size):
    R = operator.from_canonical(random_orthogonal(size, 3))
    U = np.asarray(canonical_basis(R))
    np.testing.assert_allclose(U.swapaxes(-1, -2) @ U, np.broadcast_to(np.eye(size), U.shape), atol=1e-5)
    chex.assert_trees_all_close(operator.from_canonical(U), R, atol=1e-5)


def test_a_general_operator_scores_like_j_on_turned_embeddings():
    U = random_orthogonal(6)
    left, right = normal(2, 6)
    general = (np.asarray(operator.from_canonical(U)) @ left) @ right
    np.testing.assert_allclose(general, np.asarray(operator.rotate(U.T @ left)) @ (U.T @ right), atol=1e-5)


@pytest.mark.parametrize(
    "function", [operator.rotate, operator.to_complex, lambda v: operator.scale_blocks(v, jnp.ones(1))]
)
@pytest.mark.parametrize("shape", [(3,), (4, 1)])
def test_odd_last_dimension_is_refused_in_one_line(function, shape):
    with pytest.raises(ValueError, match=r"even last dimension") as error:
        function(jnp.ones(shape))
    assert "\n" not in str(error.value)
    assert str(list(shape)) in str(error.value)


@pytest.mark.parametrize("scale_shape", [(3,), (4, 1), (2, 2), (1, 4, 2), ()])
def test_a_scale_that_does_not_fit_is_refused(scale_shape):
    with pytest.raises(ValueError, match="scale"):
        operator.scale_blocks(jnp.ones((4, 4)), jnp.ones(scale_shape))


def test_bfloat16_is_widened():
    assert operator.rotate(jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.float32
