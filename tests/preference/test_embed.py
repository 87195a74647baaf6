"""Both expressiveness theorems: the embeddings' scores equal the matrix, and their derivatives follow its changes."""

import functools

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpmjax.preference.embed import embed_skew_symmetric
from gpmjax.preference.score import pairwise_scores

METHODS = ["spectral", "pairwise"]
embed = jax.jit(embed_skew_symmetric, static_argnums=1)
SIZES = [1, 2, 3, 4, 7, 33, 64]


def skew(matrix: np.ndarray) -> np.ndarray:
    return ((matrix - np.swapaxes(matrix, -1, -2)) / 2).astype(np.float32)


def with_spectrum(moduli: list[float], n: int) -> np.ndarray:
    """A random skew-symmetric matrix with eigenvalues ±i·moduli, the others 0."""
    Q = np.linalg.qr(np.random.default_rng(n).normal(size=(n, n)))[0]
    blocks = np.zeros((n, n))
    for block, modulus in enumerate(moduli):
        blocks[2 * block, 2 * block + 1] = modulus
    return skew(2 * Q @ blocks @ Q.T)


def normal(n: int, *batch: int) -> np.ndarray:
    return skew(np.random.default_rng(n).normal(size=(*batch, n, n)))


def cycle(n: int) -> np.ndarray:
    """Each item beats the next, the last beats the first. Eigenvalues are repeated, and some are 0 when 4 divides n."""
    step = np.roll(np.eye(n), 1, axis=1)
    return (step - step.T).astype(np.float32)


MATRICES = {
    "normal": normal,
    "wins and losses": lambda n: np.sign(normal(n)),
    "transitive": lambda n: skew(2 * np.triu(np.ones((n, n)), 1)),
    "rewards, rank 2": lambda n: np.subtract.outer(np.linspace(-1, 1, n), np.linspace(-1, 1, n)).astype(np.float32),
    "cycle": cycle,
    "one eigenvalue, repeated": lambda n: with_spectrum([1.0] * (n // 2), n),
    "repeated and zero": lambda n: with_spectrum([2.0] * (n // 4) + [1.0] * (n // 8), n),
    "wide spectrum": lambda n: with_spectrum([10.0 ** -(block / 2) for block in range(n // 2)], n),
    "zero": lambda n: np.zeros((n, n), np.float32),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", SIZES)
def test_scores_of_the_embedding_are_the_matrix(method, n):
    P = np.stack([make(n) for make in MATRICES.values()])
    v = embed(P, method)
    chex.assert_shape(v, (len(MATRICES), n, 2 * n if method == "pairwise" else 2 * (n // 2)))
    np.testing.assert_allclose(pairwise_scores(v), P, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@given(P=st.sampled_from([2, 3, 5]).flatmap(lambda n: arrays(np.float32, (n, n), elements=st.floats(-1, 1, width=16))))
def test_any_skew_matrix_is_embedded(method, P):
    P = skew(P)
    np.testing.assert_allclose(pairwise_scores(embed(P, method)), P, atol=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1e3])
@pytest.mark.parametrize("method", METHODS)
def test_the_error_is_relative_to_the_entries(method, size):
    P = np.float32(size) * normal(33)
    np.testing.assert_allclose(pairwise_scores(embed(P, method)), P, rtol=0, atol=3e-6 * np.max(np.abs(P)))


class EmbedVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_jit_and_vmap_give_what_a_plain_loop_gives(self):
        P = normal(6, 4)
        for method in METHODS:
            one = functools.partial(embed_skew_symmetric, method=method)
            one_by_one = np.stack([one(p) for p in P])
            np.testing.assert_allclose(self.variant(one)(P), one_by_one, atol=1e-5)
            np.testing.assert_allclose(self.variant(jax.vmap(one))(P), one_by_one, atol=1e-5)
            nested = self.variant(one)(P.reshape(2, 2, 6, 6))
            np.testing.assert_allclose(np.reshape(nested, one_by_one.shape), one_by_one, atol=1e-5)


FULL_RANK = {
    "even": lambda: normal(6),
    "odd": lambda: normal(7),
    "repeated": lambda: with_spectrum([1.0, 1.0, 1.0], 6),
    "repeated, odd": lambda: with_spectrum([2.0, 2.0, 1.0], 7),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("matrix", FULL_RANK.values(), ids=FULL_RANK)
def test_the_scores_follow_a_change_of_the_matrix(method, matrix):
    P = matrix()
    dP = skew(np.random.default_rng(1).normal(size=P.shape))
    there_and_back = jax.jit(lambda p: pairwise_scores(embed_skew_symmetric(p, method)))
    _, followed = jax.jvp(there_and_back, (P,), (dP,))
    np.testing.assert_allclose(followed, dP, atol=1e-4)


@pytest.mark.parametrize("matrix", FULL_RANK.values(), ids=FULL_RANK)
def test_gradients_are_exact_for_functions_that_do_not_depend_on_the_basis(matrix):
    """‖v_0‖² = |P|₀₀ with |P| = √(PᵀP), against central differences in float64."""
    P = matrix()
    dP = skew(np.random.default_rng(2).normal(size=P.shape))

    def length(p: np.ndarray) -> float:
        _, moduli, rows = np.linalg.svd(p)
        return float(np.sum(moduli * rows[:, 0] ** 2))

    wide, direction, step = np.asarray(P, np.float64), np.asarray(dP, np.float64), 1e-5
    expected = (length(wide + step * direction) - length(wide - step * direction)) / (2 * step)
    value, gradient = jax.jit(jax.value_and_grad(lambda p: jnp.sum(embed_skew_symmetric(p)[0] ** 2)))(P)
    assert float(value) == pytest.approx(length(wide), rel=1e-4)
    assert float(np.sum(np.asarray(gradient) * dP)) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_gradients_are_finite_everywhere(method, n):
    P = np.stack([make(n) for make in MATRICES.values()])
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(embed_skew_symmetric(p, method)))))(P)
    chex.assert_tree_all_finite(gradient)
    np.testing.assert_allclose(np.swapaxes(gradient, -1, -2), -gradient, atol=1e-5)


def test_the_symmetric_part_of_a_matrix_is_dropped():
    P = normal(4)
    np.testing.assert_allclose(pairwise_scores(embed_skew_symmetric(P + np.float32(1))), P, atol=1e-5)


# With --jaxtyping-packages, jaxtyping checks the annotations and raises its own error first.
REFUSED = (ValueError, jaxtyping.TypeCheckError)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 4), ()])
def test_a_matrix_that_is_not_square_is_refused(shape):
    with pytest.raises(REFUSED, match="P"):
        embed_skew_symmetric(jnp.ones(shape))


def test_an_unknown_method_is_refused():
    with pytest.raises(REFUSED, match="method"):
        embed_skew_symmetric(jnp.zeros((2, 2)), "schur")
