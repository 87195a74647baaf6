"""Rotary positions (Su et al. 2021, arXiv 2104.09864) and the ways of stretching them.

A head of size d is d/2 planes. Plane i holds the coordinates i and i + d/2, the "half" pairing of Hugging Face
checkpoints, not the interleaved pairing of the paper. It is turned by the angle position × frequency_i.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gpmjax.arrays import Array
from gpmjax.models.config import DecoderConfig, RopeScaling


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> np.ndarray:
    """Each plane's frequency in radians per position, θ^(−2i/d), stretched by ``scaling``; [head_dim/2] float32.

    >>> frequencies(4, 100.0).tolist()
    [1.0, 0.1...]
    >>> frequencies(4, 100.0, RopeScaling("linear", factor=4.0)).tolist()
    [0.25, 0.025...]
    """
    base = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if scaling is None:
        stretched = base
    elif scaling.kind == "linear":
        stretched = base / scaling.factor
    elif scaling.kind == "llama3":
        turns = scaling.original_max_positions * base / (2 * math.pi)
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        stretched = base * (keep + (1 - keep) / scaling.factor)
    else:
        keep = _yarn_keep(head_dim, theta, scaling)
        stretched = base * (keep + (1 - keep) / scaling.factor)
    return stretched.astype(np.float32)


def _yarn_keep(head_dim: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """The share of each plane's frequency that YaRN keeps: 1 for fast planes, 0 for slow ones; [head_dim/2]."""

    def plane(turns: float) -> float:
        """The index of the plane that makes ``turns`` turns over the original length."""
        return head_dim * math.log(scaling.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(plane(scaling.beta_fast)), 0)
    high = min(math.ceil(plane(scaling.beta_slow)), head_dim - 1)
    # As in the reference implementation, a ramp of width 0 becomes a step.
    width = (high - low) or 0.001
    return 1 - np.clip((np.arange(head_dim // 2) - low) / width, 0.0, 1.0)


def rotary_tables(config: DecoderConfig, positions: Int[Array, "B T"]) -> tuple[Array, Array]:
    """cos and sin of every angle, each [n, B, T, head_dim/2] float32.

    Table 0 is for all layers; where the config has ``local_rope_theta``, table 1 is for the sliding layers.
    """
    rows = [frequencies(config.head_dim, config.rope_theta, config.rope_scaling)]
    gains = [config.rope_scaling.attention_factor if config.rope_scaling is not None else 1.0]
    if config.local_rope_theta is not None:
        rows.append(frequencies(config.head_dim, config.local_rope_theta))
        gains.append(1.0)
    angles = positions.astype(jnp.float32)[None, :, :, None] * np.stack(rows)[:, None, None, :]
    gain = np.asarray(gains, np.float32)[:, None, None, None]
    return jnp.cos(angles) * gain, jnp.sin(angles) * gain


def rotate_planes(
    x: Float[Array, "B T H d"], cos: Float[Array, "B T half"], sin: Float[Array, "B T half"]
) -> Float[Array, "B T H d"]:
    """Turns each plane of each head by its angle. It computes in float32 and returns the dtype of ``x``."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
