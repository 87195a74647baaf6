"""GGUF files, written as by llama.cpp's converter and read back as the original model."""

import gguf
import numpy as np
import pytest

from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.gguf import GgufTensors
from gpmjax.hub.param_map import decoder_leaves, required_tensors

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma": gguf.MODEL_ARCH.GEMMA,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
}
QUANTISED = gguf.GGMLQuantizationType.Q8_0


def rotate_pairs(weight, heads):
    """Reorders rows as llama.cpp does for Llama: the halves of each head are interleaved."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def random_tensors(config):
    rng = np.random.default_rng(0)
    shapes = required_tensors(decoder_leaves(config))
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_gguf(path, hf, config, tensors, *, quantised=(), **extra):
    architecture = ARCHITECTURES[hf["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.mlp_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(config.rope_theta)
    if config.window:
        writer.add_sliding_window(config.window)
    if config.attention_softcap:
        writer.add_attn_logit_softcapping(config.attention_softcap)
    if config.final_softcap:
        writer.add_final_logit_softcapping(config.final_softcap)
    for key, value in extra.items():
        write = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}.get(type(value))
        if write is None:
            writer.add_tensor(key, value)
        else:
            write(key.replace("__", "."), value)
    names = gguf.get_tensor_name_map(architecture, config.num_layers)
    for name, tensor in tensors.items():
        if hf["model_type"] == "llama" and ("q_proj" in name or "k_proj" in name):
            tensor = rotate_pairs(tensor, config.num_heads if "q_proj" in name else config.num_kv_heads)
        if hf["model_type"].startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor + np.float32(1)
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name in quantised:
            writer.add_tensor(stored, gguf.quantize(tensor, QUANTISED), raw_dtype=QUANTISED)
        else:
            writer.add_tensor(stored, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def plain(families):
    """(config.json, config) of a Llama without rope scaling, which a GGUF file stores as factors."""
    hf = {name: value for name, value in families["llama"].items() if name != "rope_scaling"}
    return hf, decoder_config(hf)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_converted_model_is_read_back(tmp_path, families, model_type):
    hf = {name: value for name, value in families[model_type].items() if name != "rope_scaling"}
    # The format omits these settings: the architecture implies them.
    implied = {"gemma2": {"query_pre_attn_scalar": 8}, "gemma3_text": {"query_pre_attn_scalar": 8}}.get(model_type, {})
    more = {"gemma3__rope__freq_base_swa": 500.0} if model_type == "gemma3_text" else {}
    config = decoder_config(hf | implied)
    tensors = random_tensors(config)
    read = GgufTensors(write_gguf(tmp_path / "m.gguf", hf, config, tensors, **more))
    assert decoder_config(read.hf_config) == config
    assert read.names() == sorted(tensors)
    for name, tensor in tensors.items():
        assert read.shape(name) == tensor.shape
        np.testing.assert_allclose(read.read(name), tensor, atol=2e-7)
        index = tuple(slice(1, size - 1) for size in tensor.shape)
        np.testing.assert_array_equal(read.read(name, index), read.read(name)[index])


def test_slices_of_quantised_tensors(tmp_path, plain):
    hf, _ = plain
    config = decoder_config(hf | {"hidden_size": 32, "head_dim": 8})
    tensors = random_tensors(config)
    name = "model.layers.1.self_attn.q_proj.weight"
    read = GgufTensors(write_gguf(tmp_path / "m.gguf", hf, config, tensors, quantised=[name]))
    whole = read.read(name)
    np.testing.assert_allclose(whole, tensors[name], atol=0.02)
    index = (slice(3, 9), slice(2, 30))
    np.testing.assert_array_equal(read.read(name, index), whole[index])


def test_llama3_scaling_is_recognised_from_its_factors(tmp_path, families):
    scaling = families["llama"]["rope_scaling"] | {"original_max_position_embeddings": 8192}
    hf = families["llama"] | {"rope_scaling": scaling, "rope_theta": 500_000.0, "head_dim": 16}
    config = decoder_config(hf)
    # As the converter computes them.
    frequency = 500_000.0 ** -(np.arange(0, 16, 2) / 16)
    wavelength = 2 * np.pi / frequency
    blend = (8192 / wavelength - 1) / 3
    factors = np.where(wavelength < 8192 / 4, 1, np.where(wavelength > 8192, 8, 1 / ((1 - blend) / 8 + blend)))
    tensors = random_tensors(config)
    stored = {gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.ROPE_FREQS] + ".weight": factors.astype(np.float32)}
    read = GgufTensors(write_gguf(tmp_path / "m.gguf", hf, config, tensors, **stored))
    assert decoder_config(read.hf_config) == config

    stored = {name: value + np.float32(1) for name, value in stored.items()}
    with pytest.raises(ValueError, match="rope_freqs.weight is not Llama 3's scaling"):
        GgufTensors(write_gguf(tmp_path / "other.gguf", hf, config, tensors, **stored))


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"llama__expert_count": 8}, "llama.expert_count is not known here"),
        ({"llama__rope__dimension_count": 2}, "llama.rope.dimension_count is 2; allowed: the head dimension, 6"),
        ({"llama__rope__scaling__type": "longrope"}, "rope.scaling.type is 'longrope'; allowed: none, linear, yarn"),
    ],
)
def test_unknown_settings_are_refused_by_name(tmp_path, plain, extra, complaint):
    hf, config = plain
    with pytest.raises(ValueError, match=complaint):
        GgufTensors(write_gguf(tmp_path / "m.gguf", hf, config, random_tensors(config), **extra))


def test_unknown_architecture(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(
        ValueError, match="general.architecture is 'mamba'; allowed: llama, qwen2, qwen3, gemma, gemma2, gemma3"
    ):
        GgufTensors(tmp_path / "m.gguf")


@pytest.mark.parametrize("kept", [0, 3, 60, -200])
def test_truncated_file(tmp_path, plain, kept):
    hf, config = plain
    path = write_gguf(tmp_path / "m.gguf", hf, config, random_tensors(config))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"m.gguf: truncated or damaged GGUF file \(.*\)$"):
        GgufTensors(path)
