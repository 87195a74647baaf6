"""config.json is read with transformers' defaults and written back; an unknown attribute is refused."""

import json

import pytest
import transformers

from gpmjax.hub.config_map import FAMILIES, decoder_config, hf_config, passed_over
from gpmjax.models.config import DecoderConfig, RopeScaling

TINY = dict(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def read(model_type, **attributes):
    return decoder_config({"model_type": model_type} | TINY | attributes)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_missing_attributes_have_transformers_defaults(model_type):
    saved = json.loads(transformers.AutoConfig.for_model(model_type).to_json_string(use_diff=False))
    assert decoder_config({"model_type": model_type}) == decoder_config(saved)


def test_rotary_attributes_of_both_versions_agree():
    llama3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    old = read("llama", rope_theta=5e5, rope_scaling=dict(type="llama3", **llama3))
    new = read("llama", rope_parameters=dict(rope_type="llama3", rope_theta=5e5, **llama3))
    assert old == new
    assert new.rope_theta == 5e5 and new.rope_scaling == RopeScaling("llama3", 8.0, 32, 1.0, 4.0)


def test_gemma3_has_a_rope_base_for_each_layer_type():
    new = read(
        "gemma3_text",
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=2e6),
            sliding_attention=dict(rope_type="default", rope_theta=5e3),
        ),
        _sliding_window_pattern=6,
    )
    old = read(
        "gemma3_text", rope_theta=2e6, rope_local_base_freq=5e3, rope_scaling=dict(rope_type="linear", factor=8.0)
    )
    # With four layers and a period of six, no layer has full attention.
    assert old == new and new.layer_types == ("sliding",) * 4
    assert (new.rope_theta, new.local_rope_theta, new.rope_scaling.factor) == (2e6, 5e3, 8.0)


def test_the_text_model_of_an_image_model_is_read():
    text = dict(TINY, model_type="gemma3_text", head_dim=8, sliding_window=512)
    whole = dict(model_type="gemma3", text_config=text, vision_config=dict(image_size=896), mm_tokens_per_image=256)
    assert decoder_config(whole) == decoder_config(text)


def test_yarn_gain_equals_that_of_transformers():
    yarn = dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=16)
    assert read("qwen2", rope_scaling=yarn).rope_scaling.attention_factor == pytest.approx(1.3688879)
    assert read("qwen2", rope_scaling=yarn | dict(mscale=1.0, mscale_all_dim=1.0)).rope_scaling.attention_factor == 1.0


@pytest.mark.parametrize(
    ("model_type", "attributes", "layer_types", "window"),
    [
        ("mistral", dict(sliding_window=None), "ffff", 0),
        ("mistral", dict(sliding_window=9), "ssss", 9),
        ("qwen2", dict(sliding_window=9, max_window_layers=2), "ffff", 0),
        ("qwen2", dict(sliding_window=9, max_window_layers=2, use_sliding_window=True), "ffss", 9),
        ("qwen2", dict(sliding_window=9, max_window_layers=9, use_sliding_window=True), "ffff", 0),
        ("gemma2", dict(sliding_window=9), "sfsf", 9),
        ("gemma3_text", dict(sliding_window=9, sliding_window_pattern=2), "sfsf", 9),
        ("gemma3_text", dict(sliding_window=9, layer_types=["full_attention"] * 3 + ["sliding_attention"]), "fffs", 9),
    ],
)
def test_sliding_layers(model_type, attributes, layer_types, window):
    config = read(model_type, **attributes)
    assert "".join(kind[0] for kind in config.layer_types) == layer_types and config.window == window


def test_gemmas_gelu_is_the_tanh_form():
    assert read("gemma", hidden_act="gelu", hidden_activation=None).activation == "gelu_tanh"
    assert read("gemma", hidden_activation="gelu_pytorch_tanh").activation == "gelu_tanh"
    assert read("llama", hidden_act="gelu").activation == "gelu"


@pytest.mark.parametrize(
    ("model_type", "attributes", "words"),
    [
        ("mamba", {}, "model_type is 'mamba'"),
        ("llama", dict(clip_qkv=8.0), "'clip_qkv' (8.0) is not known for model_type 'llama'"),
        ("llama", dict(sliding_window=9), "'sliding_window' (9) is not known for model_type 'llama'"),
        ("llama", dict(quantization_config=dict(bits=4)), "'quantization_config'"),
        ("llama", dict(rope_interleaved=True), "'rope_interleaved'"),
        ("llama", dict(partial_rotary_factor=0.5), "'partial_rotary_factor'"),
        ("llama", dict(hidden_act="relu2"), "hidden_act is 'relu2'"),
        ("llama", dict(rope_scaling=dict(rope_type="dynamic", factor=2.0)), "rope_type is 'dynamic'"),
        ("llama", dict(rope_scaling=dict(rope_type="linear", factor=2.0, phase=1)), "'phase'"),
        ("llama", dict(rope_scaling=dict(rope_type="linear")), "no factor"),
        ("gemma", dict(use_bidirectional_attention=True), "'use_bidirectional_attention'"),
        ("gemma3_text", dict(attn_logit_softcapping=50.0), "'attn_logit_softcapping'"),
        ("qwen2", dict(layer_types=["linear_attention"] * 4, use_sliding_window=True), "'linear_attention'"),
        ("qwen2", dict(use_mrope=True), "'use_mrope'"),
    ],
)
def test_attributes_that_change_the_forward_pass_are_refused_by_name(model_type, attributes, words):
    with pytest.raises(ValueError) as error:
        read(model_type, **attributes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_extra_attributes_of_published_models_are_accepted():
    extras = {
        "architectures": ["LlamaForCausalLM"],
        "is_llama_config": True,
        "rope_interleaved": False,
        "torch_dtype": "bfloat16",
        "transformers.js_config": {"dtype": "q4"},
        "pretraining_tp": 1,
        "gpmjax": {"gate": "softmax"},
        "unknown_but_null": None,
    }
    assert read("llama", **extras) == read("llama")


@pytest.mark.parametrize(
    ("model_type", "extras"),
    [
        (
            "llama",
            dict(
                attn_implementation="flash_attention_2",
                _commit_hash="0123",
                keys_to_ignore_at_inference=["past_key_values"],
            ),
        ),
        ("llama", dict(neftune_noise_alpha=5, gradient_checkpointing=True, resid_pdrop=0.1, model_max_length=4096)),
        (
            "llama",
            dict(
                layer_types=["full_attention"] * 4, use_sliding_window=False, sliding_window=4096, max_window_layers=28
            ),
        ),
        ("gemma", dict(layer_types=["full_attention"] * 4)),
        ("mistral", dict(sliding_window=None, layer_types=["full_attention"] * 4, use_sliding_window=False)),
        ("qwen2", dict(qkv_bias=False, alibi=False, rotary_pct=1.0, is_causal=True, use_mrope=False)),
    ],
)
def test_attributes_without_effect_are_ignored(model_type, extras):
    plain = {name: value for name, value in extras.items() if name == "sliding_window" and model_type == "mistral"}
    assert read(model_type, **extras) == read(model_type, **plain)
    assert set(passed_over({"model_type": model_type} | extras)) == {
        name for name, value in extras.items() if value is not None and name not in FAMILIES[model_type]
    }


@pytest.mark.parametrize(
    ("model_type", "extras", "word"),
    [
        ("llama", dict(layer_types=["full_attention", "sliding_attention"] * 2), "layer_types"),
        ("llama", dict(use_sliding_window=True), "use_sliding_window"),
        ("llama", dict(sliding_window=4096, use_sliding_window=True), "sliding_window"),
        ("llama", dict(max_window_layers=2), "max_window_layers"),
        ("llama", dict(rotary_pct=0.25), "rotary_pct"),
        ("llama", dict(alibi=0), "alibi"),
        ("llama", dict(value_head_prefix="reward_head"), "value_head_prefix"),
        ("llama", dict(auto_map={"AutoModel": "modeling.Model"}), "auto_map"),
        ("mistral", dict(sliding_window=9, use_sliding_window=False), "use_sliding_window"),
        ("mistral", dict(use_sliding_window=False), "use_sliding_window"),  # the default window is 4096
        ("mistral", dict(sliding_window=9, layer_types=["full_attention"] * 4), "layer_types"),
    ],
)
def test_the_same_attributes_are_refused_where_they_have_an_effect(model_type, extras, word):
    with pytest.raises(ValueError, match=f"'{word}'"):
        read(model_type, **extras)


def test_a_decoder_of_no_family_is_not_exported():
    config = DecoderConfig(
        vocab_size=32, hidden_size=8, num_layers=1, num_heads=2, mlp_size=16, norm_offset=1.0, qkv_bias=True
    )
    with pytest.raises(ValueError, match="no Hugging Face family"):
        hf_config(config)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_exported_architectures_exist(model_type):
    for architecture in ("causal_lm", "sequence_classification"):
        exported = hf_config(read(model_type), architecture)
        assert exported["model_type"] == model_type
        assert hasattr(transformers, exported["architectures"][0])
