"""Presets have the published models' shapes; parameters are counted without being allocated."""

import math

import jax
import numpy as np
import pytest

from gpmjax.hub.config_map import decoder_config, hf_config
from gpmjax.hub.param_map import leaves
from gpmjax.models.config import DecoderConfig, LoRA, RopeScaling, Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.spec import PreferenceSpec

# Parameter counts from the models' pages.
PUBLISHED = {
    "smollm2-135m": 134_515_008,
    "llama3-8b": 8_030_261_248,
    "llama31-8b": 8_030_261_248,
    "llama32-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "qwen25-0.5b": 494_032_768,
    "qwen25-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "gemma-2b": 2_506_172_416,
    "gemma2-2b": 2_614_341_888,
    "gemma3-1b": 999_885_952,
}


def shapes(config, spec, batch, runtime=None):
    tree = jax.eval_shape(PreferenceModel(config, spec, runtime or Runtime()).init, jax.random.key(0), batch)["params"]
    return {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_are_the_published_ones(name, groups, token_batch):
    config = PRESETS[name].validate()
    spec = PreferenceSpec(dim=8)
    ours = shapes(config, spec, token_batch([groups]), Runtime(dtype="bfloat16", remat="full"))
    assert ours == {path: leaf.shape for path, leaf in leaves(config, spec).items()}
    count = sum(math.prod(shape) for path, shape in ours.items() if path.startswith("decoder"))
    assert count == PUBLISHED.get(name, count)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_described_by_a_hugging_face_family(name):
    assert decoder_config(hf_config(PRESETS[name])) == PRESETS[name]


def test_lora_adds_factors_and_nothing_else(groups, token_batch):
    batch, spec = token_batch([groups]), PreferenceSpec.bradley_terry()
    plain = shapes(PRESETS["llama31-8b"], spec, batch)
    adapted = shapes(PRESETS["llama31-8b"], spec, batch, Runtime(lora=LoRA(rank=16, alpha=32.0, targets=("q",))))
    assert {path: shape for path, shape in adapted.items() if "lora" not in path} == plain
    assert adapted["decoder/layers/attention/q/lora_b"] == (32, 16, 4096)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(num_kv_heads=3), "multiple of num_kv_heads 3"),
        (dict(head_dim=5), "head_dim is 5"),
        (dict(activation="relu"), "'silu', 'gelu', 'gelu_tanh'"),
        (dict(layer_types=("full",)), "names 1 layers"),
        (dict(layer_types=("full", "sliding")), "window is 0"),
        (dict(rope_scaling=RopeScaling("ntk", 2.0)), "'linear', 'llama3', 'yarn'"),
        (dict(hidden_size=0, head_dim=2), "hidden_size=0: must be at least 1"),
    ],
)
def test_a_bad_config_is_refused_in_one_line(change, words):
    sizes = dict(vocab_size=8, hidden_size=8, num_layers=2, num_heads=4, mlp_size=8)
    with pytest.raises(ValueError, match=words) as error:
        DecoderConfig(**(sizes | change)).validate()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", [dict(dtype="float16"), dict(remat="some"), dict(unroll="yes"), dict(lora=LoRA(0, 1.0))]
)
def test_a_bad_runtime_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Runtime(**change).validate()


def test_config_is_hashable_and_derived_fields_are_filled():
    config = PRESETS["tiny"]
    assert hash(config) == hash(DecoderConfig(**vars(config)))
    assert config.head_dim == 8 and config.layer_types == ("full", "full")
    np.testing.assert_allclose(config.attention_scale, 8**-0.5)
