"""The parts of a decoder layer: normalisation, linear maps with optional LoRA, gated MLP."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.models.config import DecoderConfig, Runtime

_ACTIVATIONS = {
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
}


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · (w + offset) over the last axis, in float32 (arXiv 1910.07467, eq. 4)."""

    eps: float
    offset: float
    param_dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        init = nn.initializers.constant(1.0 - self.offset)
        scale = self.param("scale", init, (x.shape[-1],), self.param_dtype).astype(jnp.float32)
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return (normed * jax.lax.expand_dims(scale + self.offset, range(x.ndim - 1))).astype(x.dtype)


class Linear(nn.Module):
    """y = x W + b, plus (α/r) (x A) B where ``runtime.lora`` targets a module of this name.

    Parameters: ``kernel`` [in, out], ``bias`` [out], ``lora_a`` [in, r], ``lora_b`` [r, out]. ``lora_b`` starts at 0,
    so that LoRA does not change y at first.
    """

    features: int
    bias: bool
    runtime: Runtime

    @nn.compact
    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        param_dtype = self.runtime.param_dtype
        inputs = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs, self.features), param_dtype)
        *batch, _ = x.shape
        if self.runtime.mesh is None:
            # x gets one axis of tokens. In the gradient xᵀ dy of a plain matrix product, XLA's CPU backend folds the
            # transpose into the product. With x [B, T, in] it writes the transpose out, which takes a quarter of a
            # training step. On a mesh x stays as it is: reshaped, the step compiled for v5e:4x4 has 5 % more HBM
            # traffic.
            x = x.reshape(-1, inputs)
        y = x @ kernel.astype(x.dtype)
        if self.bias:
            b = self.param("bias", nn.initializers.zeros, (self.features,), param_dtype)
            y = y + jax.lax.expand_dims(b.astype(x.dtype), range(x.ndim - 1))
        lora = self.runtime.lora
        if lora is not None and self.name in lora.targets:
            a = self.param("lora_a", nn.initializers.normal(inputs**-0.5), (inputs, lora.rank), param_dtype)
            b = self.param("lora_b", nn.initializers.zeros, (lora.rank, self.features), param_dtype)
            y = y + (lora.alpha / lora.rank) * ((x @ a.astype(x.dtype)) @ b.astype(x.dtype))
        return y.reshape(*batch, self.features)


class GatedMLP(nn.Module):
    """W_down(act(W_gate x) ⊙ W_up x) (Shazeer 2020, arXiv 2002.05202, eq. 6)."""

    config: DecoderConfig
    runtime: Runtime

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        config = self.config
        gate, up = (Linear(config.mlp_size, config.mlp_bias, self.runtime, name=name)(x) for name in ("gate", "up"))
        inner = _ACTIVATIONS[config.activation](gate) * up
        return Linear(config.hidden_size, config.mlp_bias, self.runtime, name="down")(inner)
