"""The equilibrium of a symmetric zero-sum game by an interior-point method, in a fixed number of small linear solves.

For μ > 0 let p be the policy with p_i (v − (Sp)_i) = μ for all i, where v = Kμ. Summed over i this gives Σ_i p_i = 1,
as pᵀSp = 0, so p is a distribution; and v bounds the gain of any opponent of p. At μ = ∞ the policy is uniform; as μ →
0 it tends to an equilibrium, of many to the most central. Newton's method follows p as μ decreases; in the end the
equations of the equilibrium's support are solved directly. A simplex method would be exact in fewer steps, but would
end in a corner: of two equal responses it would give one everything.
"""

import jax
import jax.numpy as jnp

# μ falls from FIRST_BARRIER, where the uniform policy is nearly central, to LAST_BARRIER, well below float32's
# resolution of the gap, K × 1e-7.
FIRST_BARRIER, LAST_BARRIER, STEPS = 1.0, 3e-9, 62

# A step goes at most this share of the way to the boundary p ≥ 0, slack ≥ 0.
MARGIN = 0.95

# Singular values of the support's equations below this share of the largest count as 0.
RANK_TOLERANCE = 1e-5


def equilibrium(S: jax.Array) -> jax.Array:
    """The most central equilibrium of a skew-symmetric S [K, K] with entries in [−1, 1]: probabilities [K]."""
    central, slack = _follow_central_path(S)
    exact = _solve_on_support(S, central, central > slack)
    candidates = jnp.stack([exact, central])
    return candidates[jnp.argmin(jnp.max(_payoffs(S, candidates), axis=-1))]


def _follow_central_path(S: jax.Array) -> tuple[jax.Array, jax.Array]:
    K = S.shape[-1]
    ratio = (LAST_BARRIER / FIRST_BARRIER) ** (1 / (STEPS - 1))

    def step(n, state):
        # slack = Kμ − Sp is a variable of its own: computed as a difference it would cancel near the end.
        p, slack = state
        mu = FIRST_BARRIER * ratio**n
        error = K * mu - slack - _payoffs(S, p)
        dp = jnp.linalg.solve(jnp.diag(slack) - p[:, None] * S, mu - p * slack - p * error)
        dslack = error - _payoffs(S, dp)
        shrink = jnp.max(jnp.concatenate([-dp / p, -dslack / slack]))
        length = jnp.minimum(1.0, MARGIN / jnp.maximum(shrink, MARGIN))
        return p + length * dp, slack + length * dslack

    p = jnp.full(K, 1 / K, S.dtype)
    p, slack = jax.lax.fori_loop(0, STEPS, step, (p, K * FIRST_BARRIER - _payoffs(S, p)))
    return p / jnp.sum(p), slack


def _solve_on_support(S: jax.Array, central: jax.Array, support: jax.Array) -> jax.Array:
    """The policy nearest to ``central`` that is 0 off the support and gains exactly 0 against every response of it."""
    on = support.astype(S.dtype)
    equations = jnp.concatenate([on[:, None] * S * on[None, :], on[None, :]])
    right = jnp.zeros(S.shape[-1] + 1, S.dtype).at[-1].set(1.0)
    p = on * central
    inverse = jnp.linalg.pinv(equations, rtol=RANK_TOLERANCE)
    for _ in range(2):  # the second round removes the first one's rounding error
        p = p + _times(inverse, right - _times(equations, p))
    p = jnp.maximum(on * p, 0.0)
    return p / jnp.maximum(jnp.sum(p), jnp.finfo(S.dtype).tiny)


def _payoffs(S: jax.Array, p: jax.Array) -> jax.Array:
    """(S p)_j, the gain of response j against p [..., K]."""
    return jnp.einsum("jk,...k->...j", S, p, precision=jax.lax.Precision.HIGHEST)


def _times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)
