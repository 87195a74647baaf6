"""Converts a Hugging Face ``config.json`` to a ``DecoderConfig`` and back.

An attribute is read, or known not to affect the forward pass, or refused by name; nothing is guessed. A missing
attribute has the default of ``transformers``, which ``FAMILIES`` lists.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gpmjax.checks import number, shown, whole
from gpmjax.hub.passed_over import NEUTRAL, PASSED_OVER, STANDARD, neutral_layers
from gpmjax.hub.rope_map import ROPE_ATTRIBUTES, read_rope, write_rope
from gpmjax.models.config import LARGEST_SIZES, DecoderConfig, require_one_of

_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "mlp_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
}


def _defaults(vocab: int, hidden: int, mlp: int, layers: int, heads: int, kv: int | None, positions: int, **more: Any):
    sizes = (vocab, hidden, mlp, layers, heads, kv, None, positions, 1e-6, False)
    return dict(zip(_SIZES, sizes, strict=True)) | more


_QWEN = dict(hidden_act="silu", use_sliding_window=False, sliding_window=4096, max_window_layers=28, layer_types=None)
_GEMMA = dict(head_dim=256, tie_word_embeddings=True, attention_bias=False, hidden_activation=None)
_LATER_GEMMA = _GEMMA | dict(
    hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=256, sliding_window=4096, layer_types=None
)

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _defaults(
        32000, 4096, 11008, 32, 32, None, 2048, hidden_act="silu", attention_bias=False, mlp_bias=False
    ),
    "mistral": _defaults(32000, 4096, 14336, 32, 32, 8, 131072, hidden_act="silu", sliding_window=4096),
    "qwen2": _defaults(151936, 4096, 22016, 32, 32, 32, 32768, **_QWEN),
    "qwen3": _defaults(151936, 4096, 22016, 32, 32, 32, 32768, **(_QWEN | dict(head_dim=128, attention_bias=False))),
    "gemma": _defaults(256000, 3072, 24576, 28, 16, 16, 8192, **(_GEMMA | dict(hidden_act="gelu_pytorch_tanh"))),
    "gemma2": _defaults(
        256000, 2304, 9216, 26, 8, 4, 8192,
        **(_LATER_GEMMA | dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0)),
    ),
    "gemma3_text": _defaults(
        262208, 2304, 9216, 26, 8, 4, 131072,
        **(_LATER_GEMMA | dict(final_logit_softcapping=None, sliding_window_pattern=6)),
    ),
}  # fmt: skip
"""The attributes that each ``model_type`` reads, with their defaults; rotary attributes are in rope_map.py."""

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_LAYER_TYPES = {"full_attention": "full", "sliding_attention": "sliding"}


def decoder_config(hf: Mapping[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes; rotary attributes may be in the style of transformers 4 or 5.

    Raises:
        ValueError: the ``model_type`` or a value is not supported, or an attribute is unknown; the message names it.
    """
    hf = _text_half(hf)
    model_type: Any = hf.get("model_type")
    require_one_of("model_type", model_type, tuple(FAMILIES))
    _refuse_unknown(hf, model_type)
    value: dict[str, Any] = FAMILIES[model_type] | {name: hf[name] for name in FAMILIES[model_type] if name in hf}
    value = {name: checked_attribute(name, read) for name, read in value.items()}
    gemma, later_gemma = model_type.startswith("gemma"), model_type in ("gemma2", "gemma3_text")
    named = "hidden_activation" if value.get("hidden_activation") else "hidden_act"
    activation: Any = value.get(named)
    require_one_of(named, activation, tuple(_ACTIVATIONS))
    # Gemma 1 says "gelu" and means its tanh form.
    activation = "gelu_tanh" if model_type == "gemma" and activation == "gelu" else _ACTIVATIONS[activation]
    layer_types, window = _layers(value, model_type)
    theta, local_theta, scaling = read_rope(hf, model_type, value["max_position_embeddings"])
    # None means that the attribute is absent; DecoderConfig derives these two.
    sizes = {ours: value[theirs] for theirs, ours in _SIZES.items()}
    sizes |= {name: sizes[name] or 0 for name in ("num_kv_heads", "head_dim")}
    return DecoderConfig(
        **sizes,
        activation=activation,
        norm_offset=1.0 if gemma else 0.0,
        rope_theta=theta,
        rope_scaling=scaling,
        layer_types=layer_types,
        window=window,
        local_rope_theta=local_theta if "sliding" in layer_types else None,
        qkv_bias=model_type == "qwen2" or value.get("attention_bias", False),
        o_bias=value.get("attention_bias", False),
        mlp_bias=value.get("mlp_bias", False),
        qk_norm=model_type in ("qwen3", "gemma3_text"),
        post_norms=later_gemma,
        attention_softcap=value.get("attn_logit_softcapping"),
        final_softcap=value.get("final_logit_softcapping"),
        attention_scale=value["query_pre_attn_scalar"] ** -0.5 if later_gemma else None,
        embed_scale=value["hidden_size"] ** 0.5 if gemma else 1.0,
    ).validate()


def _text_half(hf: Mapping[str, Any]) -> Mapping[str, Any]:
    """The text model's config: of an image-and-text model its ``text_config``, otherwise the config itself."""
    if hf.get("model_type") != "gemma3":
        return hf
    text = hf.get("text_config")
    if not isinstance(text, dict):
        raise ValueError(f"text_config={shown(text)}: must be an object")
    return {"tie_word_embeddings": hf.get("tie_word_embeddings", True), "model_type": "gemma3_text"} | text


def _refuse_unknown(hf: Mapping[str, Any], model_type: str) -> None:
    for name, value in hf.items():
        known = name in FAMILIES[model_type] or name in ROPE_ATTRIBUTES or name in STANDARD or name in PASSED_OVER
        if value is None or known or neutral_layers(hf, name, FAMILIES[model_type]):
            continue
        if name not in NEUTRAL:
            raise ValueError(
                f"config attribute {shown(name)} ({shown(value)}) is not known for model_type {model_type!r}"
            )
        if not any(value == neutral and type(value) is type(neutral) for neutral in NEUTRAL[name]):
            allowed = ", ".join(map(repr, (None, *NEUTRAL[name])))
            raise ValueError(f"config attribute {name!r} is {shown(value)}; allowed: {allowed}")


def passed_over(hf: Mapping[str, Any]) -> list[str]:
    """The attributes of a config that ``decoder_config`` accepts without reading them, and that its family does not
    have.

    >>> passed_over({"model_type": "llama", "hidden_size": 64, "neftune_noise_alpha": 5, "use_cache": True})
    ['neftune_noise_alpha']
    """
    hf = _text_half(hf)
    known = {*FAMILIES[hf["model_type"]], *ROPE_ATTRIBUTES, *STANDARD}
    return sorted(name for name, value in hf.items() if value is not None and name not in known)


_WHOLE = {theirs: LARGEST_SIZES[ours] for theirs, ours in _SIZES.items() if ours in LARGEST_SIZES}
_MAY_BE_NULL = ("num_key_value_heads", "head_dim")
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
_POSITIVE = ("rms_norm_eps", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping")
_COUNTS = ("sliding_window", "max_window_layers", "sliding_window_pattern")


def checked_attribute(name: str, value: Any) -> Any:
    """The value of a family's attribute; raises ValueError if its type is wrong or it is out of range."""
    if value is None and (name in _FLAGS or name.endswith("softcapping") or name in (*_MAY_BE_NULL, *_COUNTS)):
        return False if name in _FLAGS else None
    if name in _WHOLE:
        whole(name, value, 1, _WHOLE[name])
    elif name in _POSITIVE:
        number(name, value, above=0)
    elif name in _COUNTS:
        whole(name, value, 0)
    elif name in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{name}={shown(value)}: must be true or false")
    elif name == "layer_types":
        if value is not None and not isinstance(value, list):
            raise ValueError(f"{name}={shown(value)}: must be a list")
    elif not (isinstance(value, str) or value is None):  # an activation
        raise ValueError(f"{name}={shown(value)}: must be a text")
    return value


def _layers(value: Mapping[str, Any], model_type: str) -> tuple[tuple[str, ...], int]:
    """(type of every layer, window), read from the attributes that the family uses."""
    count, window = value["num_hidden_layers"], value.get("sliding_window")
    if not window or not value.get("use_sliding_window", True):
        return ("full",) * count, 0
    if value.get("layer_types") is not None:
        if len(value["layer_types"]) != count:
            raise ValueError(f"layer_types names {len(value['layer_types'])} layers; num_hidden_layers is {count}")
        for kind in value["layer_types"]:
            require_one_of("layer_types", kind, tuple(_LAYER_TYPES))
        slides = [kind == "sliding_attention" for kind in value["layer_types"]]
    elif "max_window_layers" in value:
        slides = [index >= value["max_window_layers"] for index in range(count)]
    else:
        # Every n-th layer has full attention; Mistral has no such layer.
        period = {"gemma2": 2, "gemma3_text": value.get("sliding_window_pattern") or 6}.get(model_type)
        slides = [period is None or bool((index + 1) % period) for index in range(count)]
    return tuple("sliding" if slide else "full" for slide in slides), window if any(slides) else 0


Architecture = Literal["causal_lm", "sequence_classification"]
_CLASSES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
}


def hf_config(config: DecoderConfig, architecture: Architecture = "causal_lm") -> dict[str, Any]:
    """A ``config.json`` for this decoder, of the first family whose config reads back as exactly this one.

    Raises:
        ValueError: no family can represent this decoder.

    >>> config = DecoderConfig(vocab_size=32, hidden_size=8, num_layers=1, num_heads=2, mlp_size=16, qk_norm=True)
    >>> hf_config(config)["architectures"], decoder_config(hf_config(config)) == config
    (['Qwen3ForCausalLM'], True)
    """
    require_one_of("architecture", architecture, ("causal_lm", "sequence_classification"))
    for model_type in FAMILIES:
        hf = _as_family(config, model_type)
        if decoder_config(hf) == config:
            return hf | {"architectures": [_class_name(model_type, architecture)]}
    raise ValueError(f"no Hugging Face family ({', '.join(FAMILIES)}) computes {config}")


def _class_name(model_type: str, architecture: Architecture) -> str:
    if architecture == "causal_lm":
        return f"{_CLASSES[model_type]}ForCausalLM"
    # Gemma3ForSequenceClassification is the image-and-text model.
    text = "Text" if model_type == "gemma3_text" else ""
    return f"{_CLASSES[model_type]}{text}ForSequenceClassification"


def _as_family(config: DecoderConfig, model_type: str) -> dict[str, Any]:
    """The attributes of ``model_type``, filled from ``config``; what the family cannot express is lost."""
    activation = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}[config.activation]
    assert config.attention_scale is not None  # DecoderConfig derives it
    scalar = round(config.attention_scale**-2)
    filled = {
        "hidden_act": activation,
        "hidden_activation": activation,
        "attention_bias": config.o_bias,
        "mlp_bias": config.mlp_bias,
        "use_sliding_window": bool(config.window),
        "sliding_window": config.window or None,
        "layer_types": [f"{kind}_attention" for kind in config.layer_types],
        "sliding_window_pattern": _period(config.layer_types),
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.final_softcap,
        "query_pre_attn_scalar": scalar,
    } | {theirs: getattr(config, ours) for theirs, ours in _SIZES.items()}
    said = {name: filled[name] for name in FAMILIES[model_type] if name in filled}
    return {"model_type": model_type} | said | write_rope(config)


def _period(layer_types: Sequence[str]) -> int:
    """The n for which every n-th layer is full, for readers without ``layer_types``; Gemma 3's 6 if there is no such n.

    >>> _period(("sliding", "full", "sliding", "full", "sliding")), _period(("full", "sliding"))
    (2, 6)
    """
    for period in range(1, len(layer_types) + 1):
        if all((kind == "full") == (place % period == 0) for place, kind in enumerate(layer_types, start=1)):
            return period
    return 6 if "full" in layer_types else len(layer_types) + 1
