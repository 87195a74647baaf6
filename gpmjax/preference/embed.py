"""Embeddings whose scores are any given skew-symmetric matrix, built explicitly by the two expressiveness theorems.

                     items    dimensions    embedding
    "pairwise"   4.4    n        2n         v_i = (e_i, ½ P_i) block by block: linear in P
    "spectral"   A.3    n        2⌊n/2⌋     from the eigenvectors of P, scaled by √eigenvalue; no shorter one exists

The theorems write P_ij = v_iᵀ R v_j, while the score, equation (4.2), is ⟨R v_i, v_j⟩ = −v_iᵀ R v_j. Here the score
equals P, so that `pairwise_scores(embed_skew_symmetric(P))` is P.

**The spectral embedding.** i P is Hermitian: its eigenvalues are real and come in pairs ±μ with conjugate eigenvectors
u, ū. With the ⌊n/2⌋ largest, μ ≥ 0, as columns of U and Z = U √μ,

    i P = Z Zᴴ − (Z Zᴴ)‾ = 2i Im(Z Zᴴ),    so    P_ij = 2 Σ_l Im(z_il z̄_jl) = Σ_l a_il b_jl − b_il a_jl

with the blocks (a, b) = √2 (Im z, Re z). Eigenvectors need not be paired, which is the fragile part of a real Schur
form. A repeated eigenvalue leaves a choice of basis within its eigenspace, on which Z Zᴴ does not depend. An eigenvalue
0 (there is one whenever n is odd) contributes nothing.

**Its derivative.** The factor Z is unique up to a unitary turn, Z Q, so "the" derivative needs a choice. Of all dZ that
follow a change dP, the smallest one is

    dZ = W (Φ ∘ Wᴴ (i dP) U),    Φ_jl = √μ_l / (μ_l + |μ_j|),

with W all n eigenvectors and μ_j their eigenvalues. Φ holds no difference of eigenvalues; the derivative of `eigh`
does, and is infinite where two are equal. Only at μ_l = 0 does √μ have no derivative; there Φ is set to 0. What this
means to a caller is in `embed_skew_symmetric`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_square
from gpmjax.preference.operator import from_complex
from gpmjax.preference.score import pairwise_scores


def embed_skew_symmetric(
    P: Float[Array, "*batch n n"], method: Literal["spectral", "pairwise"] = "spectral"
) -> Float[jax.Array, "*batch n dim"]:
    """Embeddings of n items whose scores are a given matrix: P_ij = ⟨R v_i, v_j⟩ for every skew-symmetric P.

    The function can be differentiated once, in forward or reverse mode. "pairwise" is linear in P. "spectral" has
    finite derivatives everywhere, also at repeated eigenvalues. For every function that does not depend on the choice
    of eigenvectors (of the scores, of lengths ‖v_i‖, …) they are exact where P has its generic rank, 2⌊n/2⌋. Below that
    rank, they leave out the part of a change that would raise the rank, since v grows like the square root of that
    part.

    Args:
      P: skew-symmetric log-odds [..., n, n]. Of any other matrix, the skew part ½(P − Pᵀ) is embedded.
      method: "spectral" (Theorem A.3) or "pairwise" (Theorem 4.4).
    Returns:
      [..., n, 2⌊n/2⌋] for "spectral", [..., n, 2n] for "pairwise". In float32 the scores equal P within about 1e-6 of
      P's largest entry.
    Raises:
      ValueError: P is not square, or the method is unknown.
    Source: arXiv 2410.02197, Theorems 4.4 and A.3.

    >>> rock_paper_scissors = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    >>> v = embed_skew_symmetric(rock_paper_scissors)
    >>> v.shape, bool(jnp.allclose(pairwise_scores(v), rock_paper_scissors, atol=1e-5))
    ((3, 2), True)
    """
    P = float32_or_wider(P)
    require_square("P", P)
    P = (P - P.mT) / 2
    if method == "spectral":
        return _spectral(P)
    if method == "pairwise":
        return _pairwise(P)
    raise ValueError(f"method {method!r} must be 'spectral' or 'pairwise'")


def canonical_basis(operator: Float[Array, "*batch dim dim"]) -> Float[jax.Array, "*batch dim dim"]:
    """The orthogonal U of a preference operator's canonical form U J Uᵀ; `operator.from_canonical` is the inverse.

    A skew-symmetric, magnitude-preserving R has the eigenvalues ±i only. So the spectral embedding of R's scores on the
    unit vectors, ⟨R e_i, e_j⟩ = (Rᵀ)_ij, scales nothing: it is U itself.

    Args:
      operator: R [..., 2k, 2k] with Rᵀ = −R and RᵀR = I.
    Returns:
      [..., 2k, 2k]. U is not unique: U Q serves as well for every orthogonal Q that commutes with J.
    Raises:
      ValueError: R is not square.
    Source: arXiv 2410.02197, Proposition A.1.

    >>> from gpmjax.preference.operator import from_canonical, operator_matrix
    >>> J = operator_matrix(2)
    >>> bool(jnp.allclose(from_canonical(canonical_basis(-J)), -J, atol=1e-6))
    True
    """
    return embed_skew_symmetric(jnp.asarray(operator).mT)


def _pairwise(P: jax.Array) -> jax.Array:
    """Theorem 4.4: block l of v_i is (δ_il, ½ P_li), so s(i ≻ j) = ½ P_ij − ½ P_ji = P_ij."""
    selector = jnp.broadcast_to(jnp.eye(P.shape[-1], dtype=P.dtype), P.shape)
    return from_complex(jax.lax.complex(selector, P.mT / 2))


@jax.custom_jvp
def _spectral(P: jax.Array) -> jax.Array:
    """Theorem A.3, in the notation of the module's docstring. [..., n, n] → [..., n, 2⌊n/2⌋]."""
    return _embedding_and_follow(P)[0]


@_spectral.defjvp
def _spectral_jvp(primals, tangents):
    (P,), (dP,) = primals, tangents
    v, follow = _embedding_and_follow(P)
    return v, follow(dP)


def _embedding_and_follow(P: jax.Array):
    """The spectral embedding, and the linear map from a small change dP to the change dv that follows it."""
    top = slice(P.shape[-1] - P.shape[-1] // 2, None)  # eigenvalues ascend; the last ⌊n/2⌋ belong to U
    mu, W = jnp.linalg.eigh(_times_i(P))
    U, mu_U = W[..., :, top], jnp.maximum(mu[..., None, top], 0.0)
    # An eigenvalue of 0 is computed as a rounding error of about this size.
    rounding = P.shape[-1] * float(jnp.finfo(P.dtype).eps) * jnp.max(jnp.abs(mu), axis=-1)[..., None, None]
    nonzero = mu_U > rounding
    # The inner `where` keeps 0/0 from being computed: its NaN would spoil gradients even where it is not selected.
    Phi = jnp.where(nonzero, jnp.sqrt(mu_U) / jnp.where(nonzero, mu_U + jnp.abs(mu)[..., :, None], 1.0), 0.0)

    def follow(dP: jax.Array) -> jax.Array:
        return _blocks(_matmul(W, Phi.astype(W.dtype) * _matmul(W.mT.conj(), _matmul(_times_i(dP), U))))

    v = _blocks(U * jnp.sqrt(mu_U).astype(U.dtype))
    # One Newton step along the residual removes most of the eigenvectors' rounding error.
    return v + follow(P - pairwise_scores(v)), follow


def _blocks(z: jax.Array) -> jax.Array:
    """Blocks (a, b) = √2 (Im z, Re z): √2 i z̄, as real numbers."""
    return 2**0.5 * from_complex(jax.lax.complex(z.imag, z.real))


def _times_i(P: jax.Array) -> jax.Array:
    return jax.lax.complex(jnp.zeros_like(P), P)


def _matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
