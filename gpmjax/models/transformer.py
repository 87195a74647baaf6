"""The decoder, from token ids and their layout to hidden states. All families share it (see ``config``).

Layers are scanned: one layer is traced, and parameters are stacked on a leading axis L. Settings that differ between
layers (sliding window, rotary base) are arrays along that axis too, so layers of different types share one body. While
decoding, the cached keys and values are one more such array.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gpmjax.arrays import Array, TokenLayout
from gpmjax.models.attention.flash import KEPT
from gpmjax.models.attention.grouped_query import NO_WINDOW, attention, cached_attention
from gpmjax.models.cache import DecodeStep, Past
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.layers import GatedMLP, Linear, RMSNorm
from gpmjax.models.rotary import rotary_tables, rotate_planes
from gpmjax.sharding import look_up, split_rows
from gpmjax.softcap import soft_cap

_KEPT = "keys_and_values"
"""The Flax collection into which every layer writes its keys and values, where the caller makes it mutable."""

_POLICIES = jax.checkpoint_policies
_REMAT_POLICIES = {
    "full": None,
    "dots": _POLICIES.save_from_both_policies(
        _POLICIES.dots_with_no_batch_dims_saveable, _POLICIES.save_only_these_names(KEPT)
    ),
}


class SelfAttention(nn.Module):
    """W_o attention(W_q x, W_k x, W_v x), with q and k rotated, and normalised per head where the config says so.

    With a ``past``, x holds the next token of each of K responses, and ``layout`` is a ``DecodeStep``.
    """

    config: DecoderConfig
    runtime: Runtime

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], layout: TokenLayout | DecodeStep, window, past: Past | None, cos, sin
    ) -> Float[Array, "B T D"]:
        c = self.config
        q, k, v = (
            Linear(size, c.qkv_bias, self.runtime, name=name)(x).reshape(*x.shape[:2], -1, c.head_dim)
            for name, size in (("q", c.q_size), ("k", c.kv_size), ("v", c.kv_size))
        )
        if c.qk_norm:
            q = RMSNorm(c.norm_eps, c.norm_offset, self.runtime.param_dtype, name="q_norm")(q)
            k = RMSNorm(c.norm_eps, c.norm_offset, self.runtime.param_dtype, name="k_norm")(k)
        q, k = rotate_planes(q, cos, sin), rotate_planes(k, cos, sin)
        if not self.is_initializing():
            self.sow(_KEPT, "pair", (k, v), reduce_fn=lambda _, new: new, init_fn=lambda: None)
        settings: dict[str, Any] = dict(scale=c.attention_scale, window=window, softcap=c.attention_softcap)
        if isinstance(layout, TokenLayout):
            runtime = self.runtime
            mixed = attention(q, k, v, layout, implementation=runtime.attention, mesh=runtime.mesh, **settings)
        else:
            assert past is not None
            mixed = cached_attention(q, k, v, past, layout, **settings)
        return Linear(c.hidden_size, c.o_bias, self.runtime, name="o")(mixed.reshape(*x.shape[:2], -1))


class DecoderLayer(nn.Module):
    """One pre-norm layer in ``nn.scan``'s form: (carry, this layer's arrays, all layers' arrays) → (carry, None)."""

    config: DecoderConfig
    runtime: Runtime

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "B T D"], layer: dict[str, Any], layout: TokenLayout | DecodeStep, cos, sin
    ):
        c = self.config

        def norm(name: str) -> RMSNorm:
            return RMSNorm(c.norm_eps, c.norm_offset, self.runtime.param_dtype, name=name)

        def post(name: str, x: Array) -> Array:
            return norm(name)(x) if c.post_norms else x

        mixed = SelfAttention(c, self.runtime, name="attention")(
            norm("attention_norm")(hidden),
            layout,
            layer.get("window"),
            layer.get("past"),
            cos[layer["rope"]],
            sin[layer["rope"]],
        )
        hidden = split_rows(hidden + post("post_attention_norm", mixed), self.runtime.mesh)
        inner = GatedMLP(c, self.runtime, name="mlp")(norm("mlp_norm")(hidden))
        return split_rows(hidden + post("post_mlp_norm", inner), self.runtime.mesh), None


def layer_arrays(config: DecoderConfig) -> dict[str, np.ndarray]:
    """Settings that differ between layers, [L] int32 each: the rotary table's index, and the window if any slides."""
    sliding = np.array([kind == "sliding" for kind in config.layer_types])
    arrays = {"rope": (sliding & (config.local_rope_theta is not None)).astype(np.int32)}
    if sliding.any():
        arrays["window"] = np.where(sliding, config.window, NO_WINDOW).astype(np.int32)
    return arrays


def _stack(config: DecoderConfig, runtime: Runtime) -> nn.Module:
    layer = DecoderLayer
    if runtime.remat != "none":
        # XLA may merge a layer's recomputation with the first computation, but not inside a loop: unrolled, prevent it.
        barrier = runtime.unroll == "unrolled"
        layer = nn.remat(DecoderLayer, policy=_REMAT_POLICIES[runtime.remat], prevent_cse=barrier)
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0, _KEPT: 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
        length=config.num_layers,
        unroll=config.num_layers if runtime.unroll == "unrolled" else 1,
    )
    return scanned(config, runtime)


class Unembedding(nn.Module):
    """The output table ``kernel`` [D, V] of a model whose output is not tied to its input."""

    config: DecoderConfig
    param_dtype: str

    @nn.compact
    def __call__(self) -> Float[Array, "D V"]:
        shape = (self.config.hidden_size, self.config.vocab_size)
        return self.param("kernel", nn.initializers.lecun_normal(), shape, self.param_dtype)


class Decoder(nn.Module):
    """Causal decoder over rows of groups. Apart from LoRA factors, the parameter tree does not depend on ``runtime``.

    Parameters: ``embed/embedding`` [V, D], ``layers/...`` each [L, ...], ``final_norm/scale`` [D], and
    ``lm_head/kernel`` [D, V] if untied. Hidden states do not need ``lm_head``: a tree without it works.
    """

    config: DecoderConfig
    runtime: Runtime = Runtime()

    def setup(self) -> None:
        c = self.config.validate()
        r = self.runtime.validate()
        init = nn.initializers.normal(c.hidden_size**-0.5)
        self.embed = nn.Embed(c.vocab_size, c.hidden_size, r.dtype, r.param_dtype, embedding_init=init)
        self.layers = _stack(c, r)
        self.final_norm = RMSNorm(c.norm_eps, c.norm_offset, r.param_dtype)
        if not c.tie_embeddings:
            self.lm_head = Unembedding(c, r.param_dtype)

    def __call__(self, tokens: Int[Array, "B T"], layout: TokenLayout) -> Float[Array, "B T D"]:
        """The hidden states after the final norm, in the compute dtype."""
        hidden = self._run(tokens, jnp.asarray(layout.positions), TokenLayout(*map(jnp.asarray, layout)), {})
        if self.is_initializing() and not self.config.tie_embeddings:
            self.lm_head()
        return hidden

    def step(self, tokens: Int[Array, "B K"], at: DecodeStep, past: Past) -> Float[Array, "B K D"]:
        """The hidden states of the next token of K responses to each of B prompts; ``past`` holds the tokens so far."""
        positions = jnp.broadcast_to((at.prompt_length + at.step)[:, None], tokens.shape)
        return self._run(tokens, positions, at, {"past": past})

    def _run(self, tokens: Array, positions: Array, layout: TokenLayout | DecodeStep, more: dict[str, Any]) -> Array:
        hidden = look_up(self.embed, tokens, self.runtime.mesh)
        if self.config.embed_scale != 1.0:
            # The factor is rounded to the compute dtype first, as in the checkpoints' own code.
            hidden = hidden * jnp.asarray(self.config.embed_scale, hidden.dtype)
        cos, sin = rotary_tables(self.config, positions)
        layers = {name: jnp.asarray(array) for name, array in layer_arrays(self.config).items()} | more
        hidden, _ = self.layers(hidden, layers, layout, cos, sin)
        return self.final_norm(hidden)

    def logits(self, hidden: Float[Array, "*batch D"]) -> Float[Array, "*batch V"]:
        """Next-token logits, float32. For a loss over many tokens use ``unembedding`` and ``losses.tokens``."""
        table = self.embed.embedding if self.config.tie_embeddings else self.lm_head().T
        logits = jnp.einsum("...d,vd->...v", hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)
        return soft_cap(logits, self.config.final_softcap)


def unembedding(params: dict[str, Any]) -> Float[Array, "V D"]:
    """The output table of a decoder's parameters: ``lm_head`` transposed, or the embedding that it is tied to."""
    return params["lm_head"]["kernel"].T if "lm_head" in params else params["embed"]["embedding"]


def prefill(model: Decoder, params: Any, tokens: Int[Array, "B P"], layout: TokenLayout) -> tuple[Array, Array, Array]:
    """The prompts' hidden states [B, P, D], and the keys and values of every layer, [L, B, P, N, d] each."""
    hidden, kept = model.apply({"params": params}, tokens, layout, mutable=[_KEPT])
    return hidden, *kept[_KEPT]["layers"]["attention"]["pair"]


def decode_step(
    model: Decoder, params: Any, tokens: Int[Array, "B K"], at: DecodeStep, past: Past
) -> tuple[Float[Array, "B K D"], Past]:
    """The hidden states of each response's next token, and the past including that token."""
    hidden, kept = model.apply({"params": params}, tokens, at, past, method="step", mutable=[_KEPT])
    return hidden, past.written(at.step, *kept[_KEPT]["layers"]["attention"]["pair"])


def sequence_layout(lengths: Int[Array, "B"], slots: int) -> TokenLayout:
    """The layout of rows that hold one plain sequence each, from slot 0 on and ``lengths`` [B] tokens long.

    >>> sequence_layout(jnp.array([2]), 3).group.tolist()
    [[1, 1, 0]]
    """
    index = jnp.broadcast_to(jnp.arange(slots, dtype=jnp.int32)[None], (lengths.shape[0], slots))
    live = (index < lengths[:, None]).astype(jnp.int32)
    return TokenLayout(positions=index * live, group=live, response=jnp.zeros_like(index))
