"""Converts the rotary attributes of ``config.json`` to those of ``DecoderConfig`` and back.

transformers 4 writes ``rope_theta``, ``rope_scaling`` and, for Gemma 3, ``rope_local_base_freq``. transformers 5 writes
``rope_parameters``, one for the model or, for Gemma 3, one per layer type. Both styles are read. The style of
transformers 4 is written, as both versions read it.
"""

import math
from collections.abc import Mapping
from typing import Any

from gpmjax.checks import number, shown, whole
from gpmjax.models.config import DecoderConfig, RopeScaling, require_one_of

ROPE_ATTRIBUTES = ("rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq")

_FULL, _SLIDING = "full_attention", "sliding_attention"
_FIELDS = {
    "factor": "factor",
    "original_max_position_embeddings": "original_max_positions",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
}
_LENGTH = "original_max_position_embeddings"
_READ = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", _LENGTH, "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", _LENGTH, "beta_fast", "beta_slow", "attention_factor"),
}
_OTHER_FIELDS = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "mscale", "mscale_all_dim", "truncate")


def read_rope(
    hf: Mapping[str, Any], model_type: str, max_positions: int
) -> tuple[float, float | None, RopeScaling | None]:
    """(θ, θ of sliding layers if the family has a separate one, scaling).

    Raises:
        ValueError: a kind of scaling, or a field of it, is not supported; the message names it.

    >>> read_rope({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}}, "llama", 64)[:2]
    (500.0, None)
    """
    gemma3 = model_type == "gemma3_text"
    given = _object("rope_scaling", hf.get("rope_scaling")) or _object("rope_parameters", hf.get("rope_parameters"))
    local: Mapping[str, Any] = {}
    if gemma3 and (_FULL in given or _SLIDING in given):
        given, local = (_object(f"rope_parameters.{kind}", given.get(kind)) for kind in (_FULL, _SLIDING))
        if _read_scaling(local, max_positions) is not None:
            raise ValueError(
                f"rope_parameters.{_SLIDING}={dict(local)}: must have rope_type 'default', as layers are sliding"
            )
    theta = _first("rope_theta", given.get("rope_theta"), hf.get("rope_theta"), 1_000_000.0 if gemma3 else 10_000.0)
    local_theta = None
    if gemma3:
        local_theta = _first("rope_local_base_freq", local.get("rope_theta"), hf.get("rope_local_base_freq"), 10_000.0)
    return theta, local_theta, _read_scaling(given, max_positions)


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping | None):
        raise ValueError(f"{name}={shown(value)}: must be an object")
    return value or {}


def _first(name: str, *values: Any) -> float:
    """The first value that is not None, which must be a positive number."""
    value = next(value for value in values if value is not None)
    number(name, value, above=0)
    return float(value)


def _read_scaling(given: Mapping[str, Any], max_positions: int) -> RopeScaling | None:
    kind = given.get("rope_type") or given.get("type") or "default"
    require_one_of("rope_type", kind, tuple(_READ))
    for name in given:
        # A known field of another kind of scaling (such as a left-over length) has no effect; an unknown one might.
        require_one_of("rope scaling field", name, (*_FIELDS, *_OTHER_FIELDS))
        if name in (*_FIELDS, "mscale", "mscale_all_dim") and given[name] is not None:
            number(f"rope scaling field {name}", given[name], above=0)
    require_one_of("partial_rotary_factor", given.get("partial_rotary_factor"), (None, 1.0))
    require_one_of("rope truncate", given.get("truncate"), (None, True))
    if kind == "default":
        return None
    fields = {_FIELDS[name]: given[name] for name in _READ[kind] if given.get(name) is not None}
    if "factor" not in fields:
        raise ValueError(f"rope scaling {kind!r}: has no factor")
    if kind != "linear":
        fields.setdefault("original_max_positions", max_positions)
        whole(f"rope scaling field {_LENGTH}", fields["original_max_positions"], 1)
    if kind == "yarn":
        fields.setdefault("attention_factor", _yarn_gain(given, fields["factor"]))
    return RopeScaling(kind, **fields)


def _yarn_gain(given: Mapping[str, Any], factor: float) -> float:
    """YaRN's factor of cos and sin, which keeps the entropy of attention: 0.1 ln(factor) + 1, or a ratio of two."""
    log_factor = math.log(factor) if factor > 1 else 0.0
    if given.get("mscale") and given.get("mscale_all_dim"):
        return (0.1 * given["mscale"] * log_factor + 1.0) / (0.1 * given["mscale_all_dim"] * log_factor + 1.0)
    return 0.1 * log_factor + 1.0


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The rotary attributes of a config, in the style of transformers 4; the inverse of ``read_rope``."""
    written: dict[str, Any] = {"rope_theta": config.rope_theta}
    scaling = config.rope_scaling
    if scaling is not None:
        named = {theirs: getattr(scaling, ours) for theirs, ours in _FIELDS.items() if theirs in _READ[scaling.kind]}
        written["rope_scaling"] = {"rope_type": scaling.kind} | named
    if config.local_rope_theta is not None:
        written["rope_local_base_freq"] = config.local_rope_theta
    return written
