"""Loads pretrained decoders and saved preference models from any source into parameter trees."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gpmjax.hub.declaration import LOG_TAU, SCORE, is_head_tensor, resolved, saved_spec
from gpmjax.hub.param_map import decoder_leaves, head_leaves
from gpmjax.hub.source import Source, open_source, tokenizer_for
from gpmjax.hub.weights import Place, load_tree, place_whole
from gpmjax.models.config import DecoderConfig, require_one_of
from gpmjax.models.spec import PreferenceSpec

SAVED_HEADS = ("refuse", "drop")


class LoadedModel(NamedTuple):
    """A saved preference model."""

    config: DecoderConfig
    spec: PreferenceSpec
    params: dict[str, Any]
    """{"decoder": …, "heads": …}, float32; a classifier's directory may have no ``lm_head``, which is then missing."""
    tokenizer: Any


def load_decoder(
    source: str | Source,
    config: DecoderConfig | None = None,
    place: Place = place_whole,
    *,
    saved_heads: str = "refuse",
) -> dict[str, Any]:
    """The float32 parameters of a decoder, as the tree of ``gpmjax.models.transformer.Decoder``.

    Args:
        source: see ``open_source``.
        config: the decoder to fill, by default the source's own.
        place: puts each array on its devices; its paths start with "decoder/".
        saved_heads: what to do if the source is a preference model: "refuse" it, or "drop" its heads.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; or there are heads and ``saved_heads`` is
            "refuse".
    """
    require_one_of("saved_heads", saved_heads, SAVED_HEADS)
    source = open_source(source) if isinstance(source, str) else source
    heads = [name for name in source.names() if is_head_tensor(name)]
    if heads and saved_heads == "refuse":
        raise ValueError(
            f"{source.label}: holds a trained head ({heads[0]}); load_preference_model keeps it, "
            'saved_heads="drop" drops it'
        )
    return _load(source, config or source.config, None, place)["decoder"]


def load_preference_model(
    source: str | Source, declare: Mapping[str, Any] | None = None, place: Place | None = None, *, tokenizer: str = ""
) -> LoadedModel:
    """Loads a preference model: one of ours, a published one, or a `*ForSequenceClassification` reward model.

    Args:
        source: see ``open_source``.
        declare: fields of PreferenceSpec that the model does not declare itself. Embeddings need at least ``gate`` and
            ``normalise``: the released GPM checkpoints are ``{"gate": "softmax", "normalise": "l2"}``.
        place: puts each array on its devices; by default on one device.
        tokenizer: another source to take the tokenizer from; empty: ``source``.

    Raises:
        ValueError: no head is saved, a field must be declared, or a tensor is missing, unknown or of another shape.
        FileNotFoundError: a file of the model or the tokenizer is missing.
    """
    source = open_source(source) if isinstance(source, str) else source
    spec = saved_spec(source, declare)
    # The tokenizer may be missing or unfit: read it before gigabytes of weights.
    found = tokenizer_for(source, tokenizer)
    spec = resolved(spec, found)
    return LoadedModel(source.config, spec, _load(source, source.config, spec, place or place_whole), found)


def _load(source: Source, config: DecoderConfig, spec: PreferenceSpec | None, place: Place) -> dict[str, Any]:
    """{"decoder": …, "heads": …}; without ``spec`` the decoder alone, and saved heads are ignored."""
    names = source.names()
    heads = [name for name in names if is_head_tensor(name)]
    form = "sequence_classification" if SCORE in names else "native"
    table = {f"decoder/{path}": leaf for path, leaf in decoder_leaves(config).items()}
    if heads and "lm_head.weight" not in names:
        # Scores do not need next-token logits, so classifiers and some published models have no output matrix.
        table.pop("decoder/lm_head/kernel", None)
    if spec is not None and spec.head == "verdict" and not config.tie_embeddings:
        table["decoder/lm_head/kernel"] = decoder_leaves(config)["lm_head/kernel"]
    if spec is not None:
        table |= {f"heads/{path}": leaf for path, leaf in head_leaves(spec, config.hidden_size, form).items()}
    params = load_tree(source.tensors, table, config, place, ignore=heads if spec is None else ())
    if spec is not None and spec.tau_mode == "learned":
        log_tau = np.asarray(source.declared.get(LOG_TAU, np.log(spec.tau)), np.float32)
        params["heads"][LOG_TAU] = place(f"heads/{LOG_TAU}", (), np.float32, lambda index: log_tau)
    return params
