"""The preference operator R, the scale gate, and two other forms of them: canonical and complex.

An embedding v ∈ ℝ²ᵏ is k blocks of two numbers, v = (a₁, b₁, …, a_k, b_k). R turns every block by a quarter turn:

        ⎡ 0  −1         ⎤
        ⎢ 1   0         ⎥        R (a, b) = (−b, a),   Rᵀ = −R,   R² = −I,   RᵀR = I.
    R = ⎢        ⋱      ⎥
        ⎢         0  −1 ⎥
        ⎣         1   0 ⎦

So s(i ≻ j) = ⟨R v_i, v_j⟩ = Σ_l a_il b_jl − b_il a_jl: the signed area that two blocks span, summed over blocks. As R
is skew-symmetric, s(i ≻ j) = −s(j ≻ i) holds by construction; as RᵀR = I, R keeps magnitudes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Complex, Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_broadcastable, require_square


def rotate(v: Float[Array, "*batch dim"]) -> Float[jax.Array, "*batch dim"]:
    """Applies the preference operator: R v, every block (a, b) ↦ (−b, a).

    Args:
      v: embeddings [..., 2k].
    Returns:
      [..., 2k].
    Raises:
      ValueError: the last dimension is odd.
    Source: arXiv 2410.02197, Definition 4.2, equation (4.1).

    >>> rotate(jnp.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [-2.0, 1.0, -4.0, 3.0]
    """
    a, b = _blocks(v)
    return _from_blocks(-b, a)


def scale_blocks(v: Float[Array, "*batch dim"], scale: Float[Array, "..."]) -> Float[jax.Array, "*out dim"]:
    """Multiplies the l-th block of every embedding by λ_l: D² v with D = blockdiag(√λ_l I₂).

    As D commutes with R, ⟨R D v_i, D v_j⟩ = ⟨R D² v_i, v_j⟩: scaling one side by λ equals scaling both sides by √λ.

    Args:
      v: embeddings [..., 2k].
      scale: λ ≥ 0 [..., k] with as many axes as v (1 where it is shared), or [k] for all.
    Returns:
      [..., 2k].
    Raises:
      ValueError: the last dimension of v is odd, or scale does not fit it.

    >>> scale_blocks(jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([10.0, 1.0])).tolist()
    [10.0, 20.0, 3.0, 4.0]
    """
    a, b = _blocks(v)
    scale = float32_or_wider(scale)
    if scale.ndim == 1:
        scale = scale.reshape((1,) * (a.ndim - 1) + scale.shape)
    if scale.shape[-1:] != a.shape[-1:]:
        raise ValueError(f"scale {list(scale.shape)} must have one value per block: {a.shape[-1]} in its last axis")
    require_broadcastable(scale=scale, blocks=a)
    return _from_blocks(scale * a, scale * b)


def operator_matrix(k: int) -> Float[jax.Array, "dim dim"]:
    """R as a matrix [2k, 2k] = blockdiag([[0, −1], [1, 0]], k). It is for reading and for tests; no score needs it.

    >>> operator_matrix(1).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    return jnp.kron(jnp.eye(k), jnp.array([[0.0, -1.0], [1.0, 0.0]]))


def from_canonical(basis: Float[Array, "*batch dim dim"]) -> Float[jax.Array, "*batch dim dim"]:
    """A general preference operator in its canonical form, U J Uᵀ, where J is `operator_matrix`.

    Every skew-symmetric and magnitude-preserving operator has this form, and its scores are J's of turned embeddings:
    ⟨U J Uᵀ v_i, v_j⟩ = ⟨J Uᵀv_i, Uᵀv_j⟩. A head can learn Uᵀv as easily as v, so J loses no generality.
    `embed.canonical_basis` is the inverse, from the operator to U.

    Args:
      basis: orthogonal U [..., 2k, 2k].
    Returns:
      [..., 2k, 2k].
    Raises:
      ValueError: U is not square, or of odd size.
    Source: arXiv 2410.02197, Proposition A.1.

    >>> from_canonical(jnp.eye(2)[::-1]).tolist()  # mirrored: it turns the other way
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    basis = float32_or_wider(basis)
    require_square("U", basis)
    # ⟨R u_m, u_n⟩ over the rows u of U is (U Jᵀ Uᵀ)_mn; its transpose is U J Uᵀ.
    return jnp.einsum("...md,...nd->...nm", rotate(basis), basis, precision=jax.lax.Precision.HIGHEST)


def to_complex(v: Float[Array, "*batch dim"]) -> Complex[jax.Array, "*batch k"]:
    """Reads every block as a complex number, a + ib. Then R is multiplication by i, and s = Im⟨v_i, v_j⟩.

    The inner product is conjugated on the left, ⟨x, y⟩ = Σ_l x̄_l y_l; conjugated on the right it would be −s.
    With k = 1 and v = e^{iθ} the score is sin(θ_j − θ_i): i beats every j that lies less than half a turn ahead of it.
    (The paper's example has sin(θ_i − θ_j), the opposite convention; here equation (4.2) decides.)

    Args:
      v: embeddings [..., 2k].
    Returns:
      [..., k].
    Source: arXiv 2410.02197, Theorem A.2.

    >>> to_complex(jnp.array([1.0, 2.0])).tolist()
    [(1+2j)]
    """
    return jax.lax.complex(*_blocks(v))


def from_complex(z: Complex[Array, "*batch k"]) -> Float[jax.Array, "*batch dim"]:
    """Inverse of `to_complex`: [..., k] → [..., 2k].

    >>> from_complex(jnp.array([1.0 + 2.0j])).tolist()
    [1.0, 2.0]
    """
    z = jnp.asarray(z)
    return _from_blocks(z.real, z.imag)


def _blocks(v: Array) -> tuple[jax.Array, jax.Array]:
    """[..., 2k] → the blocks' first numbers [..., k] and their second ones [..., k]."""
    v = float32_or_wider(v)
    if v.ndim == 0 or v.shape[-1] % 2:
        raise ValueError(f"embedding {list(v.shape)} must have an even last dimension, two numbers a block")
    return v[..., 0::2], v[..., 1::2]


def _from_blocks(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.stack([a, b], axis=-1).reshape(*a.shape[:-1], 2 * a.shape[-1])
