"""Shapes of published models by name, for planning, for tests, and for training from random weights.

An imported checkpoint's shape comes from its own ``config.json``, not from here.
"""

import dataclasses
from typing import Any

from gpmjax.models.config import DecoderConfig, RopeScaling


def _llama(**fields: Any) -> DecoderConfig:
    family = dict(vocab_size=128_256, norm_eps=1e-5, rope_theta=500_000.0, max_positions=131_072, num_kv_heads=8)
    return _config(family, fields)


def _config(family: dict[str, Any], fields: dict[str, Any]) -> DecoderConfig:
    return DecoderConfig(**family | fields)


def _llama31_scaling(factor: float) -> RopeScaling:
    return RopeScaling("llama3", factor=factor, original_max_positions=8192)


def _qwen(**fields: Any) -> DecoderConfig:
    return _config(dict(vocab_size=151_936, rope_theta=1_000_000.0, max_positions=32_768), fields)


def _gemma(hidden_size: int, **fields: Any) -> DecoderConfig:
    family = dict(vocab_size=256_000, max_positions=8192, activation="gelu_tanh", norm_offset=1.0, tie_embeddings=True)
    family |= dict(hidden_size=hidden_size, embed_scale=hidden_size**0.5)
    return _config(family, fields)


def _every(period: int, layers: int) -> tuple[str, ...]:
    """Layer types in which every ``period``-th layer is full and the others slide."""
    return tuple("sliding" if (layer + 1) % period else "full" for layer in range(layers))


_LLAMA_8B = _llama(hidden_size=4096, num_layers=32, num_heads=32, mlp_size=14_336)

PRESETS: dict[str, DecoderConfig] = {
    "tiny": DecoderConfig(
        vocab_size=512, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_size=64, tie_embeddings=True
    ),
    "smollm2-135m": _llama(
        vocab_size=49_152, hidden_size=576, num_layers=30, num_heads=9, num_kv_heads=3, mlp_size=1536,
        rope_theta=100_000.0, max_positions=8192, tie_embeddings=True,
    ),
    "llama3-8b": dataclasses.replace(_LLAMA_8B, max_positions=8192),
    "llama31-8b": dataclasses.replace(_LLAMA_8B, rope_scaling=_llama31_scaling(8.0)),
    "llama32-1b": _llama(
        hidden_size=2048, num_layers=16, num_heads=32, mlp_size=8192, tie_embeddings=True,
        rope_scaling=_llama31_scaling(32.0),
    ),
    "mistral-7b": DecoderConfig(
        vocab_size=32_000, hidden_size=4096, num_layers=32, num_heads=32, num_kv_heads=8, mlp_size=14_336,
        norm_eps=1e-5, layer_types=("sliding",) * 32, window=4096, max_positions=32_768,
    ),
    "qwen25-0.5b": _qwen(
        hidden_size=896, num_layers=24, num_heads=14, num_kv_heads=2, mlp_size=4864, qkv_bias=True, tie_embeddings=True
    ),
    "qwen25-7b": _qwen(
        vocab_size=152_064, hidden_size=3584, num_layers=28, num_heads=28, num_kv_heads=4, mlp_size=18_944,
        qkv_bias=True,
    ),
    "qwen3-0.6b": _qwen(
        hidden_size=1024, num_layers=28, num_heads=16, num_kv_heads=8, head_dim=128, mlp_size=3072, qk_norm=True,
        max_positions=40_960, tie_embeddings=True,
    ),
    "gemma-2b": _gemma(2048, num_layers=18, num_heads=8, num_kv_heads=1, head_dim=256, mlp_size=16_384),
    "gemma2-2b": _gemma(
        2304, num_layers=26, num_heads=8, num_kv_heads=4, head_dim=256, mlp_size=9216, post_norms=True,
        attention_softcap=50.0, final_softcap=30.0, layer_types=_every(2, 26), window=4096,
    ),
    "gemma3-1b": _gemma(
        1152, vocab_size=262_144, num_layers=26, num_heads=4, num_kv_heads=1, head_dim=256, mlp_size=6912,
        post_norms=True, qk_norm=True, layer_types=_every(6, 26), window=512, rope_theta=1_000_000.0,
        local_rope_theta=10_000.0, max_positions=32_768,
    ),
}  # fmt: skip
