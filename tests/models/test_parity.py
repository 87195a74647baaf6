"""The decoder equals Hugging Face's torch models, on tiny random models that exercise every feature.

Norm weights and biases are random, θ is not the default, sequences are longer than the window and than the length from
which rotary positions were scaled, heads are grouped, and their size is not hidden size / heads.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from gpmjax.hub.config_map import decoder_config, hf_config
from gpmjax.hub.param_map import leaves, locate, read_leaf
from gpmjax.models.attention import grouped_query
from gpmjax.models.config import Runtime
from gpmjax.models.transformer import Decoder, sequence_layout

LENGTHS = (48, 31)
_SHAPE = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=56,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
_LLAMA3 = dict(
    rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
_YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
CASES = {
    "llama2": dict(model_type="llama", num_key_value_heads=4, rope_theta=3e3),
    "llama3": dict(model_type="llama", head_dim=16, rope_theta=5e3, rope_scaling=_LLAMA3, attention_bias=True),
    "llama_linear": dict(model_type="llama", rope_scaling=dict(rope_type="linear", factor=3.0), mlp_bias=True),
    "smollm": dict(model_type="llama", tie_word_embeddings=True, rope_theta=1e5, num_attention_heads=8),
    "mistral": dict(model_type="mistral", head_dim=12, sliding_window=7, rope_theta=2e3),
    "qwen2": dict(
        model_type="qwen2", use_sliding_window=True, sliding_window=7, max_window_layers=1, rope_theta=2e4,
        rope_scaling=_YARN,
    ),
    "qwen3": dict(model_type="qwen3", head_dim=16, rope_theta=3e4, tie_word_embeddings=True),
    "gemma": dict(model_type="gemma", head_dim=16, num_key_value_heads=1, rope_theta=700.0),
    "gemma2": dict(
        model_type="gemma2", head_dim=16, sliding_window=7, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": dict(
        model_type="gemma3_text", head_dim=16, sliding_window=7, query_pre_attn_scalar=24, num_hidden_layers=4,
        final_logit_softcapping=3.0, layer_types=["sliding_attention", "full_attention"] * 2,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 4e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        },
    ),
}  # fmt: skip

# Changes of the config that must change a case's result, so that no case passes without using its features.
BITES = {
    "llama3": [dict(rope_scaling=None), dict(rope_theta=1e4)],
    "llama_linear": [dict(rope_scaling=None)],
    "mistral": [dict(layer_types=(), window=0)],
    "qwen2": [dict(rope_scaling=None), dict(layer_types=(), window=0)],
    "gemma": [dict(embed_scale=1.0), dict(norm_offset=0.0), dict(activation="silu")],
    "gemma2": [dict(attention_softcap=None), dict(final_softcap=None), dict(attention_scale=0.25), dict(window=9)],
    "gemma3": [dict(local_rope_theta=None), dict(rope_scaling=None), dict(window=9)],
}


def torch_model(case):
    """A Hugging Face model with every parameter random."""
    fields = _SHAPE | CASES[case]
    config = transformers.AutoConfig.for_model(**fields)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2:
                # Logits are a few units large, since the tolerance is absolute.
                p.normal_(std=p.shape[1] ** -0.5)
            else:
                centre = 1.0 if name.endswith("norm.weight") and "gemma" not in case else 0.0
                p.copy_(centre + 0.3 * torch.randn_like(p))
    return model


def our_params(model, config):
    state = {name: p.detach().numpy() for name, p in model.state_dict().items()}
    table = leaves(config)
    where = locate(state, table, config)
    tree = {}
    for path, leaf in table.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = jnp.asarray(read_leaf(leaf, lambda name, index: state[where[name]][index]))
    return tree


def run_ours(config, runtime, params, tokens):
    layout = sequence_layout(jnp.array(LENGTHS), tokens.shape[1])

    @jax.jit
    def forward(params):
        hidden = Decoder(config, runtime).apply({"params": params}, tokens, layout)
        return hidden, Decoder(config, runtime).apply({"params": params}, hidden, method="logits")

    with jax.default_matmul_precision("highest"):
        return [np.asarray(x) for x in forward(params)]


@pytest.fixture(scope="module", params=CASES)
def twin(request):
    """(case, config, our parameters, tokens, torch's hidden states, torch's logits)."""
    model = torch_model(request.param)
    config = decoder_config(model.config.to_dict())
    tokens = np.random.default_rng(0).integers(3, _SHAPE["vocab_size"], (2, max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    with torch.no_grad():
        out = model(torch.tensor(tokens), attention_mask=torch.tensor(mask).long(), output_hidden_states=True)
    return request.param, config, our_params(model, config), tokens.astype(np.int32), out.hidden_states[-1], out.logits


def differences(twin, config, runtime):
    _, _, params, tokens, hidden, logits = twin
    live = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    ours = run_ours(config, runtime, params, tokens)
    return [float(np.abs(a - b.numpy())[live].max()) for a, b in zip(ours, (hidden, logits), strict=True)]


@pytest.mark.parametrize(
    "runtime", [Runtime(), Runtime(unroll="unrolled", attention="chunked")], ids=["scan-xla", "unrolled-chunked"]
)
def test_matches_torch(twin, runtime, monkeypatch):
    monkeypatch.setattr(grouped_query, "CHUNK", 20)
    _, config, _, _, hidden, logits = twin
    assert min(float(hidden.abs().max()), float(logits.abs().max())) > 1.0
    assert max(differences(twin, config, runtime)) <= 1e-5


def test_every_feature_of_a_case_changes_its_result(twin):
    case, config, *_ = twin
    for change in BITES.get(case, []):
        changed = dataclasses.replace(config, **change)
        assert max(differences(twin, changed, Runtime())) > 1e-3, change


def test_export_describes_the_same_function(twin):
    case, config, *_ = twin
    reread = transformers.AutoConfig.for_model(**hf_config(config))
    assert reread.model_type == CASES[case]["model_type"]
    assert decoder_config(reread.to_dict()) == config
