"""A tiny model of every family, and the chat format of a real tokenizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.hub import load_tokenizer
from gpmjax.models.config import DecoderConfig, RopeScaling
from gpmjax.models.transformer import Decoder, sequence_layout

_SIZES = dict(
    vocab_size=64,
    hidden_size=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    mlp_size=24,
    max_positions=128,
    rope_theta=3e3,
)
_GEMMA = _SIZES | dict(head_dim=6, activation="gelu_tanh", norm_offset=1.0, embed_scale=4.0, tie_embeddings=True)
_LATER_GEMMA = _GEMMA | dict(post_norms=True, window=4, layer_types=("sliding", "full", "sliding"))
FAMILIES = {
    "llama": _SIZES | dict(rope_scaling=RopeScaling("llama3", factor=4.0, original_max_positions=16)),
    "mistral": _SIZES | dict(window=4, layer_types=("sliding",) * 3, head_dim=6),
    "qwen2": _SIZES | dict(qkv_bias=True, tie_embeddings=True, rope_scaling=RopeScaling("yarn", 4.0, 16)),
    "qwen3": _SIZES | dict(qk_norm=True, head_dim=10),
    "gemma": _GEMMA,
    "gemma2": _LATER_GEMMA | dict(attention_softcap=2.0, final_softcap=3.0, attention_scale=0.3),
    "gemma3": _LATER_GEMMA | dict(qk_norm=True, local_rope_theta=300.0, rope_scaling=RopeScaling("linear", 3.0)),
}


def _with_params(config, seed=0):
    """(model, parameters). Every array is random; logits are a few units large, so that no token is certain."""
    model = Decoder(config.validate())
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape)
        if path[-1].key in ("kernel", "embedding"):
            return jnp.asarray(noise * config.hidden_size**-0.5, leaf.dtype)
        return jnp.asarray((path[-1].key == "scale") * (1.0 - config.norm_offset) + 0.3 * noise, leaf.dtype)

    tokens = jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, sequence_layout(jnp.array([2]), 2))
    return model, jax.tree_util.tree_map_with_path(draw, shapes["params"])


@pytest.fixture(scope="session")
def with_params():
    return _with_params


@pytest.fixture(scope="session", params=FAMILIES)
def family(request):
    """(model, parameters) of each family."""
    return _with_params(DecoderConfig(**FAMILIES[request.param]))


@pytest.fixture(scope="session")
def tiny():
    """(model, parameters) for tests of any one family: Gemma 2, which has the most features."""
    return _with_params(DecoderConfig(**FAMILIES["gemma2"]))


@pytest.fixture(scope="session")
def full_logits():
    """(model, params, sequences of ids) → next-token logits [T, V] of each, by a full forward pass."""

    def compute(model, params, sequences):
        lengths = np.array([len(ids) for ids in sequences], np.int32)
        tokens = np.zeros((len(sequences), lengths.max()), np.int32)
        for row, ids in zip(tokens, sequences, strict=True):
            row[: len(ids)] = ids

        @jax.jit
        def forward(params, tokens, lengths):
            hidden = model.apply({"params": params}, tokens, sequence_layout(lengths, tokens.shape[1]))
            return model.apply({"params": params}, hidden, method="logits")

        logits = np.asarray(forward(params, tokens, lengths))
        return [row[:length] for row, length in zip(logits, lengths, strict=True)]

    return compute


@pytest.fixture(scope="session")
def prompts():
    """Prompts shorter and longer than the window, in two buckets."""
    rng = np.random.default_rng(7)
    return [rng.integers(1, 64, length).astype(np.int32) for length in (3, 9, 1, 35, 12)]


@pytest.fixture(scope="session")
def chat():
    return ChatFormat(load_tokenizer("smollm2"))
