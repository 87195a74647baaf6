"""Tiny models of every family with unusual settings, and a tokenizer that, like SmolLM's, pads with EOS."""

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.param_map import decoder_leaves, head_leaves
from gpmjax.models.transformer import Decoder, sequence_layout

SPECIAL = ("<|end|>", "<|start|>", "<|spare|>")
VOCABULARY = 272

_SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-4, rope_theta=3000.0, tie_word_embeddings=False,
)  # fmt: skip
_LATER_GEMMA = _SIZES | dict(
    head_dim=8,
    tie_word_embeddings=True,
    sliding_window=4,
    query_pre_attn_scalar=12,
    hidden_activation="gelu_pytorch_tanh",
)
_LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)

FAMILIES = {
    "llama": _SIZES | dict(model_type="llama", rope_scaling=_LLAMA3),
    "mistral": _SIZES | dict(model_type="mistral", sliding_window=4, head_dim=10),
    "qwen2": _SIZES | dict(model_type="qwen2", tie_word_embeddings=True),
    "qwen3": _SIZES | dict(model_type="qwen3", head_dim=10),
    "gemma": _SIZES | dict(model_type="gemma", head_dim=8, tie_word_embeddings=True),
    "gemma2": _LATER_GEMMA | dict(model_type="gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3_text": _LATER_GEMMA | dict(model_type="gemma3_text", rope_local_base_freq=500.0),
}


def random_params(config, spec=None, seed=0):
    """Random parameters, large enough that every part of the model has an effect, norms included."""
    rng = np.random.default_rng(seed)
    table = {f"decoder/{path}": leaf for path, leaf in decoder_leaves(config).items()}
    if spec is not None:
        table |= {f"heads/{path}": leaf for path, leaf in head_leaves(spec, config.hidden_size).items()}
    arrays = {p: rng.normal(size=leaf.shape, scale=0.3).astype(np.float32) for p, leaf in table.items()}
    return unflatten_dict(arrays, sep="/")


@pytest.fixture(scope="session")
def tiny_params():
    return random_params


@pytest.fixture(params=FAMILIES)
def family(request):
    """The config.json of each family, as a dict."""
    return dict(FAMILIES[request.param])


@pytest.fixture(scope="session")
def config():
    """The config of one small model, for tests that do not depend on the family."""
    return decoder_config(FAMILIES["llama"])


@pytest.fixture(scope="session")
def families():
    return FAMILIES


@pytest.fixture(scope="session")
def hidden_states():
    """(config, decoder params, tokens [B, T]) → float32 hidden states [B, T, D]."""

    def compute(config, params, tokens):
        lengths = np.full(tokens.shape[0], tokens.shape[1], np.int32)
        layout = sequence_layout(jax.numpy.asarray(lengths), tokens.shape[1])
        return Decoder(config).apply({"params": params}, jax.numpy.asarray(tokens), layout)

    return compute


@pytest.fixture(scope="session")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({token: place for place, token in enumerate((*SPECIAL, *alphabet))}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    end, start, _ = SPECIAL
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=start, eos_token=end, pad_token=end)
    wrapped.chat_template = "{% for m in messages %}<|start|>{{ m['content'] }}<|end|>{% endfor %}"
    return wrapped
