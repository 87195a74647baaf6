"""Opens the model that a run begins with: a decoder, its heads and its tokenizer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.sharding import Mesh

from gpmjax import hub
from gpmjax.config import BackboneConfig, ModelConfig
from gpmjax.data.questions import verdict_tokens
from gpmjax.files import fingerprint
from gpmjax.hub.declaration import is_head_tensor, resolved
from gpmjax.models.config import DecoderConfig, require_one_of
from gpmjax.models.heads import PreferenceHeads
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.transformer import Decoder, sequence_layout, unembedding
from gpmjax.sharding import place_leaf, tree_shardings

RANDOM = "random:"


@dataclasses.dataclass(frozen=True)
class OpenDecoder:
    """A decoder that is described but not yet in memory: a policy, or the backbone of a preference model."""

    model: Decoder
    tokenizer: Any
    source: hub.Source | None
    """None when it is drawn at random."""
    load: Callable[[], dict]
    """Its parameters, on their shards; LoRA adapters included, at zero effect."""
    fingerprint: Callable[[], str]
    """A name made of its files' contents and its arithmetic."""


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A preference model that is described but not yet in memory."""

    model: PreferenceModel
    tokenizer: Any
    load_decoder: Callable[[], dict]
    load_heads: Callable[[], dict]
    fingerprint: Callable[[], str]

    def load(self) -> dict:
        return {"decoder": self.load_decoder(), "heads": self.load_heads()}


def open_decoder(config: BackboneConfig, mesh: Mesh, seed: int) -> OpenDecoder:
    """Opens ``config.source``; reads no weights yet.

    Raises:
      FileNotFoundError, ValueError: no such model or tokenizer.
    """
    key = jax.random.key(seed)
    runtime = dataclasses.replace(config.runtime(), mesh=mesh if mesh.size > 1 else None)
    if config.source.startswith(RANDOM):
        name = config.source.removeprefix(RANDOM)
        require_one_of("config.model.source: preset", name, tuple(PRESETS))
        if not config.tokenizer:
            raise ValueError(f"config.model.tokenizer='': must be given with source={config.source!r}")
        model = Decoder(PRESETS[name], runtime)
        tokenizer = _own_tokenizer(config, model.config)
        return OpenDecoder(
            model,
            tokenizer,
            None,
            load=lambda: _random_decoder(model, mesh, key, lambda path: True),
            fingerprint=lambda: fingerprint([], f"{config.source} seed {seed} {model.config} {runtime.dtype}"),
        )
    source = hub.open_source(config.source)
    model = Decoder(source.config, runtime)

    def load() -> dict:
        loaded = hub.load_decoder(source, place=place_leaf(mesh), saved_heads="drop")
        if runtime.lora is None:
            return loaded
        adapters = _random_decoder(model, mesh, key, lambda path: path.endswith(("lora_a", "lora_b")))
        flat = traverse_util.flatten_dict(loaded) | traverse_util.flatten_dict(adapters)
        return traverse_util.unflatten_dict(flat)

    return OpenDecoder(
        model,
        hub.tokenizer_for(source, config.tokenizer),
        source,
        load,
        fingerprint=lambda: fingerprint(source.files, f"{source.config} {runtime.dtype}"),
    )


def _own_tokenizer(config: BackboneConfig, decoder: DecoderConfig):
    """The tokenizer that a config names beside its model."""
    label = f"{config.source} with tokenizer {config.tokenizer}"
    return hub.fitting(hub.load_tokenizer(config.tokenizer), decoder.vocab_size, label)


def open_backbone(config: ModelConfig, mesh: Mesh, seed: int) -> Backbone:
    """Opens ``config.source`` and checks that heads can start as ``config.start_heads`` says; reads no weights yet.

    Raises:
      FileNotFoundError, ValueError: no such model; saved heads that the config would overwrite or misread.
    """
    decoder = open_decoder(config, mesh, seed)
    source, key = decoder.source, jax.random.key(seed)
    spec = resolved(config.spec(), decoder.tokenizer)
    model = PreferenceModel(decoder.model.config, spec, decoder.model.runtime)
    saved = [name for name in source.names() if is_head_tensor(name)] if source else []
    if source and saved and config.start_heads == "new":
        raise ValueError(
            f"{source.label}: holds a trained head ({saved[0]}); config.model.start_heads must be 'saved' to go on "
            f"from it, or 'replace'"
        )

    if config.start_heads == "verdict":
        verdicts = verdict_tokens(config.asked_verdicts(), decoder.tokenizer)

    def load_heads() -> dict:
        if spec.head == "verdict":
            return {}
        if source and config.start_heads == "saved":
            return _saved_heads(source, model, mesh)
        heads = _random_heads(model, mesh, key)
        return _verdict_heads(heads, decoder.load(), verdicts) if config.start_heads == "verdict" else heads

    return Backbone(model, decoder.tokenizer, decoder.load, load_heads, decoder.fingerprint)


def _saved_heads(source: hub.Source, model: PreferenceModel, mesh: Mesh) -> dict:
    loaded = hub.load_preference_model(source, model.spec.to_dict() if not source.declared else None, place_leaf(mesh))
    if loaded.spec != model.spec:
        raise ValueError(
            f"{source.label}: its heads are declared {loaded.spec}, config.model says {model.spec}; they must agree "
            f"with start_heads='saved'"
        )
    return loaded.params["heads"]


def _random_heads(model: PreferenceModel, mesh: Mesh, key: jax.Array) -> dict:
    """Heads drawn from N(0, 1/(D + 1)²), as in the released recipe."""
    feature = jnp.zeros((1, 1, model.config.hidden_size))

    def init(key: jax.Array) -> Any:
        return PreferenceHeads(model.spec).init(key, feature, feature)["params"]

    shardings = tree_shardings(mesh, jax.eval_shape(init, key))
    return jax.jit(init, out_shardings=shardings)(jax.random.fold_in(key, 1))


def _verdict_heads(heads: dict, decoder: dict, verdicts: tuple[int, int]) -> dict:
    """A linear head that gives the log-odds of two next tokens (of a soft-capped model, those before the cap)."""
    table = unembedding(decoder)
    column = (table[verdicts[0]] - table[verdicts[1]])[:, None].astype(jnp.float32)
    kernel = heads["value"]["kernel"]
    return {"value": {"kernel": jax.device_put(column, kernel.sharding)}}


def _random_decoder(model: Decoder, mesh: Mesh, key: jax.Array, keep: Callable[[str], bool]) -> dict:
    """Draws the decoder parameters whose path ``keep`` accepts, directly on their shards; the others are never made."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    layout = sequence_layout(jnp.array([2]), 2)

    def init(key):
        params = model.init(key, tokens, layout)["params"]
        flat = traverse_util.flatten_dict(params, sep="/")
        return traverse_util.unflatten_dict({path: leaf for path, leaf in flat.items() if keep(path)}, sep="/")

    shardings = tree_shardings(mesh, {"decoder": jax.eval_shape(init, key)})["decoder"]
    return jax.jit(init, out_shardings=shardings)(jax.random.fold_in(key, 2))
