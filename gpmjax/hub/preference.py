"""Pretrained decoders and saved preference models, from any source into parameter trees."""

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
    """A preference model as it was saved."""

    config: DecoderConfig
    spec: PreferenceSpec
    params: dict[str, Any]
    """{"decoder": …, "heads": …}, float32; without ``lm_head`` when a classifier's directory leaves it out."""
    tokenizer: Any


def load_decoder(
    source: str | Source,
    config: DecoderConfig | None = None,
    place: Place = place_whole,
    *,
    saved_heads: str = "refuse",
) -> dict[str, Any]:
    """Parameters of a decoder, the tree that ``gpmjax.models.transformer.Decoder`` has; float32.

    Args:
        source: see ``open_source``.
        config: the decoder to fill, by default the source's own.
        place: where each array goes; its paths start with "decoder/".
        saved_heads: what to do when the source is a preference model: "refuse", or "drop" its heads.

    Raises:
        ValueError: a tensor is missing, has no place or another shape; or there are heads and nothing says to drop them.
    """
    require_one_of("saved_heads", saved_heads, SAVED_HEADS)
    source = open_source(source) if isinstance(source, str) else source
    heads = [name for name in source.names() if is_head_tensor(name)]
    if heads and saved_heads == "refuse":
        raise ValueError(
            f'{source.label}: holds a trained head ({heads[0]}); load_preference_model keeps it, saved_heads="drop" leaves it'
        )
    return _load(source, config or source.config, None, place)["decoder"]


def load_preference_model(
    source: str | Source, declare: Mapping[str, Any] | None = None, place: Place | None = None, *, tokenizer: str = ""
) -> LoadedModel:
    """A saved preference model: ours, a published one, or a `*ForSequenceClassification` reward model.

    Args:
        source: see ``open_source``.
        declare: PreferenceSpec fields that the model does not declare itself, at least ``gate`` and ``normalise`` for
            embeddings: ``{"gate": "softmax", "normalise": "l2"}`` reads the released GPM checkpoints.
        place: where each array goes; by default on one device.
        tokenizer: another source that the tokenizer is taken from; empty: from ``source``.

    Raises:
        ValueError: no head is saved, a field must be declared, or a tensor is missing, has no place or another shape.
        FileNotFoundError: a file is missing, the tokenizer's included.
    """
    source = open_source(source) if isinstance(source, str) else source
    spec = saved_spec(source, declare)
    # First the tokenizer, which may be missing; then gigabytes.
    found = tokenizer_for(source, tokenizer)
    spec = resolved(spec, found)
    return LoadedModel(source.config, spec, _load(source, source.config, spec, place or place_whole), found)


def _load(source: Source, config: DecoderConfig, spec: PreferenceSpec | None, place: Place) -> dict[str, Any]:
    """{"decoder": …, "heads": …}; without ``spec`` the decoder alone, whatever heads there are."""
    names = source.names()
    heads = [name for name in names if is_head_tensor(name)]
    form = "sequence_classification" if SCORE in names else "native"
    table = {f"decoder/{path}": leaf for path, leaf in decoder_leaves(config).items()}
    if heads and "lm_head.weight" not in names:
        # Scores need no next-token logits: classifiers, and some published models, leave the output matrix out.
        table.pop("decoder/lm_head/kernel", None)
    if spec is not None and spec.head == "verdict" and not config.tie_embeddings:
        table["decoder/lm_head/kernel"] = decoder_leaves(config)["lm_head/kernel"]
    if spec is not None:
        table |= {f"heads/{path}": leaf for path, leaf in head_leaves(spec, config.hidden_size, form).items()}
    params = load_tree(source.tensors, table, config, place, ignore=heads if spec is None else ())
    if spec is not None and spec.tau_mode == "learned":
        log_tau = np.float32(source.declared.get(LOG_TAU, np.log(spec.tau)))
        params["heads"][LOG_TAU] = place(f"heads/{LOG_TAU}", (), np.float32, lambda index: log_tau)
    return params
