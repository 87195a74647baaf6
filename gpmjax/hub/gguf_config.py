"""The hyper-parameters of a GGUF file, converted to a Hugging Face config.json.

A GGUF file omits what its architecture implies, such as the order of sliding layers and the scale of attention. These
values are taken from llama.cpp, which defines the format.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpmjax.checks import number, whole
from gpmjax.hub.config_map import checked_attribute

MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}

_NAMES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "vocab_size": "vocab_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
}
_READ_APART = (
    "attention.value_length",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    # Records that the model was trained with scaling; it changes nothing.
    "rope.scaling.finetuned",
)
_REQUIRED = (*tuple(_NAMES)[:4], "attention.head_count", "attention.layer_norm_rms_epsilon")

# Gemma's 27B models scale attention by (hidden / heads)^−½, all others by head_dim^−½. llama.cpp goes by depth.
_DEPTH_OF_27B = {"gemma2": 46, "gemma3": 62}


def gguf_hf_config(metadata: Mapping[str, Any], label: str, *, tied: bool, rope_factors: np.ndarray | None) -> dict:
    """Returns a config.json for the model in a GGUF file.

    Args:
        metadata: the file's key–value pairs.
        label: the file's name for error messages.
        tied: True if the file holds no output matrix of its own.
        rope_factors: the tensor `rope_freqs.weight`, by which llama.cpp divides the rotary frequencies, or None.

    Raises:
        ValueError: an unknown architecture, key or value, which the message names.
    """
    arch = metadata.get("general.architecture")
    if arch not in MODEL_TYPES:
        raise ValueError(f"{label}: general.architecture is {arch!r}; allowed: {', '.join(MODEL_TYPES)}")
    own = {key.removeprefix(f"{arch}."): value for key, value in metadata.items() if key.startswith(f"{arch}.")}
    unknown = sorted(set(own) - set(_NAMES) - set(_READ_APART))
    if unknown:
        raise ValueError(f"{label}: {arch}.{unknown[0]} is not known here, so the model might compute something else")
    missing = [key for key in _REQUIRED if key not in own]
    if missing:
        raise ValueError(f"{label}: {arch}.{missing[0]} is missing")

    config: dict[str, Any] = {"model_type": MODEL_TYPES[arch], "tie_word_embeddings": tied}
    config |= {name: _shortest(own[key]) for key, name in _NAMES.items() if key in own}
    for key, name in _NAMES.items():
        if name in config:
            _check(f"{label}: {arch}.{key}", name, config[name])
    config.setdefault("vocab_size", len(metadata.get("tokenizer.ggml.tokens", ())))
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    for key in ("attention.value_length", "rope.dimension_count"):
        if own.get(key, config["head_dim"]) != config["head_dim"]:
            raise ValueError(f"{label}: {arch}.{key} is {own[key]}; allowed: the head dimension, {config['head_dim']}")
    if arch == "llama" and "sliding_window" in config:
        config["model_type"] = "mistral"
    if arch.startswith("gemma"):
        config |= _gemma(arch, config, own, label)
    scaling = _rope_scaling(own, rope_factors, config, f"{label}: {arch}")
    return config | ({"rope_scaling": scaling} if scaling else {})


def _check(key: str, name: str, value: Any) -> None:
    try:
        number(name, value, above=0) if name == "rope_theta" else checked_attribute(name, value)
    except ValueError as error:
        raise ValueError(f"{key}, {error}") from error


def _gemma(arch: str, config: dict, own: Mapping[str, Any], label: str) -> dict:
    """Settings that the architecture implies and the file omits."""
    implied: dict[str, Any] = {"hidden_activation": "gelu_pytorch_tanh"}
    if arch == "gemma":
        return implied
    depth = config["num_hidden_layers"]
    period = own.get("attention.sliding_window_pattern", 2 if arch == "gemma2" else 6)
    whole(f"{label}: {arch}.attention.sliding_window_pattern", period, 1)
    implied["layer_types"] = [
        "full_attention" if (layer + 1) % period == 0 else "sliding_attention" for layer in range(depth)
    ]
    wide = depth == _DEPTH_OF_27B[arch]
    implied["query_pre_attn_scalar"] = (
        config["hidden_size"] // config["num_attention_heads"] if wide else config["head_dim"]
    )
    if arch == "gemma3":
        implied["rope_local_base_freq"] = _shortest(own.get("rope.freq_base_swa", 10_000.0))
    return implied


def _rope_scaling(own: Mapping[str, Any], factors: np.ndarray | None, config: dict, label: str) -> dict | None:
    if factors is not None:
        return _llama3_scaling(factors, config, label)
    kind = own.get("rope.scaling.type", "none")
    if kind == "none":
        return None
    scaling = {"rope_type": kind, "factor": _shortest(own.get("rope.scaling.factor", 1.0))}
    number(f"{label}.rope.scaling.factor", scaling["factor"], above=0)
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = own.get("rope.scaling.original_context_length")
    elif kind != "linear":
        raise ValueError(f"{label}.rope.scaling.type is {kind!r}; allowed: none, linear, yarn")
    return scaling


def _llama3_scaling(factors: np.ndarray, config: dict, label: str) -> dict:
    """The constants of the Llama 3 scaling that gives these factors; the file holds one factor per frequency."""
    original, low, high = 8192, 1.0, 4.0  # as in every released Llama 3.x
    if factors.shape != (config["head_dim"] // 2,) or not np.isfinite(factors).all() or not (factors > 0).all():
        raise ValueError(f"{label}: rope_freqs.weight must be {config['head_dim'] // 2} positive numbers")
    factor = float(factors.max())
    wavelength = 2 * np.pi * config["rope_theta"] ** (np.arange(0, config["head_dim"], 2) / config["head_dim"])
    smooth = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if not np.allclose(factors, expected, rtol=1e-3):
        raise ValueError(f"{label}: rope_freqs.weight is not Llama 3's scaling from 8192 positions, the one known here")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "original_max_position_embeddings": original,
        "low_freq_factor": low,
        "high_freq_factor": high,
    }


def _shortest(value: Any) -> Any:
    """A float32 that was converted to float64, as the shortest number of that float32: 9.999999747e-06 is 1e-05."""
    return float(str(np.float32(value))) if isinstance(value, float) else value
