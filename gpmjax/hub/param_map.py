"""Maps published tensors to parameters: one table, used for reading and writing.

A ``Leaf`` describes the source of one of our arrays: one tensor, or one tensor per layer, stacked. Published linear
weights are [out, in], ours are [in, out]. A leaf is only a description, so any slice of it can be read without the
rest, and it can be written layer by layer.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gpmjax.hub.tensors import Index
from gpmjax.models.config import DecoderConfig, require_one_of
from gpmjax.models.spec import PreferenceSpec

"""The tensors of the heads: ``value_head`` and ``prompt_head`` of a causal LM, or ``score`` of a classifier."""

ReadTensor = Callable[[str, Index], np.ndarray]
"""(tensor's name, slice) → that slice of the tensor."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of our parameter tree, described by published tensors."""

    shape: tuple[int, ...]
    sources: tuple[str, ...]
    """Name of one tensor, or, if ``stacked``, of one per layer along our first axis."""
    stacked: bool = False
    transpose: bool = False

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of each published tensor."""
        shape = self.shape[1:] if self.stacked else self.shape
        return shape[::-1] if self.transpose else shape


def leaves(config: DecoderConfig, spec: PreferenceSpec | None = None, form: str = "native") -> dict[str, Leaf]:
    """The leaves of a preference model by path.

    Paths look like "decoder/layers/mlp/up/kernel"; without ``spec`` only the decoder's are given, without "decoder/". A
    learned τ has no tensor, as it is saved in the spec. LoRA factors have none, as they are merged before writing.
    """
    decoder = decoder_leaves(config)
    if form == "sequence_classification":
        decoder.pop("lm_head/kernel", None)
    if spec is None:
        return decoder
    heads = head_leaves(spec, config.hidden_size, form)
    return {f"decoder/{path}": leaf for path, leaf in decoder.items()} | {
        f"heads/{p}": leaf for p, leaf in heads.items()
    }


def decoder_leaves(config: DecoderConfig) -> dict[str, Leaf]:
    """The leaves of a ``Decoder`` by path."""
    c = config
    table = {
        "embed/embedding": Leaf((c.vocab_size, c.hidden_size), ("model.embed_tokens.weight",)),
        "final_norm/scale": Leaf((c.hidden_size,), ("model.norm.weight",)),
    }
    if not c.tie_embeddings:
        table["lm_head/kernel"] = Leaf((c.hidden_size, c.vocab_size), ("lm_head.weight",), transpose=True)

    def layered(path: str, name: str, *shape: int) -> None:
        sources = tuple(f"model.layers.{layer}.{name}" for layer in range(c.num_layers))
        table[f"layers/{path}"] = Leaf((c.num_layers, *shape), sources, stacked=True, transpose=len(shape) == 2)

    for ours, theirs in _norm_names(c).items():
        layered(f"{ours}/scale", f"{theirs}.weight", c.hidden_size)
    if c.qk_norm:
        for name in ("q_norm", "k_norm"):
            layered(f"attention/{name}/scale", f"self_attn.{name}.weight", c.head_dim)
    for ours, (inputs, outputs, bias) in _linear_shapes(c).items():
        part = "self_attn" if ours.startswith("attention") else "mlp"
        theirs = f"{part}.{ours.split('/')[1]}_proj"
        layered(f"{ours}/kernel", f"{theirs}.weight", inputs, outputs)
        if bias:
            layered(f"{ours}/bias", f"{theirs}.bias", outputs)
    return table


def _norm_names(config: DecoderConfig) -> dict[str, str]:
    # "post_attention_layernorm" is the MLP's input norm in Llama, and a second norm after attention in Gemma 2.
    if not config.post_norms:
        return {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    return {
        "attention_norm": "input_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "post_mlp_norm": "post_feedforward_layernorm",
    }


def _linear_shapes(c: DecoderConfig) -> dict[str, tuple[int, int, bool]]:
    """(in, out, has a bias) of every linear map in a layer."""
    return {
        "attention/q": (c.hidden_size, c.q_size, c.qkv_bias),
        "attention/k": (c.hidden_size, c.kv_size, c.qkv_bias),
        "attention/v": (c.hidden_size, c.kv_size, c.qkv_bias),
        "attention/o": (c.q_size, c.hidden_size, c.o_bias),
        "mlp/gate": (c.hidden_size, c.mlp_size, c.mlp_bias),
        "mlp/up": (c.hidden_size, c.mlp_size, c.mlp_bias),
        "mlp/down": (c.mlp_size, c.hidden_size, c.mlp_bias),
    }


def head_leaves(spec: PreferenceSpec, hidden_size: int, form: str = "native") -> dict[str, Leaf]:
    """The leaves of ``PreferenceHeads`` by path.

    Raises:
        ValueError: ``form`` is a sequence classifier, which has one matrix ``score``, but the head is an MLP.

    >>> head_leaves(PreferenceSpec(dim=4), 16)["gate/kernel"]
    Leaf(shape=(16, 2), sources=('prompt_head.weight',), stacked=False, transpose=True)
    """
    require_one_of("form", form, ("native", "sequence_classification"))
    if form == "sequence_classification":
        require_one_of("head, for a sequence classifier", spec.head, ("linear",))
    if spec.head == "verdict":
        return {}  # a verdict is read from the decoder's logits
    heads = {"value": ("value_head" if form == "native" else "score", spec.outputs)}
    if spec.gate != "none":
        heads["gate"] = ("prompt_head", spec.blocks)
    table = {}
    for ours, (theirs, outputs) in heads.items():
        if spec.head == "linear":
            table[f"{ours}/kernel"] = Leaf((hidden_size, outputs), (f"{theirs}.weight",), transpose=True)
            continue
        widths = (hidden_size, *spec.mlp_widths, outputs)
        for depth, shape in enumerate(itertools.pairwise(widths)):
            path, name = f"{ours}/net_{2 * depth}", f"{theirs}.net.{2 * depth}"
            table[f"{path}/kernel"] = Leaf(shape, (f"{name}.weight",), transpose=True)
            table[f"{path}/bias"] = Leaf(shape[1:], (f"{name}.bias",))
    return table


def required_tensors(table: Mapping[str, Leaf]) -> dict[str, tuple[int, ...]]:
    """Published name → shape, for every tensor that a table of leaves reads."""
    return {name: leaf.source_shape for leaf in table.values() for name in leaf.sources}


# Name prefixes in an image-and-text checkpoint: the text model's two historical ones, and those of the image model.
_TEXT_PREFIX = re.compile(r"^(language_model\.(?=model\.|lm_head\.)|model\.language_model\.)")
_NOT_TEXT = re.compile(r"^(model\.)?(vision_tower|multi_modal_projector)\.")
_BUFFER = re.compile(r"\.rotary_emb\.inv_freq$")


def locate(names: Iterable[str], table: dict[str, Leaf], config: DecoderConfig) -> dict[str, str]:
    """Required name → the name that the tensor is stored under; every stored tensor must be known.

    Ignored are a copy of a tied ``lm_head``, rotary buffers of old checkpoints, and an image model beside the text
    model.

    Raises:
        ValueError: required tensors are missing, or stored tensors are unknown; the message names them.
    """
    stored = list(names)
    multimodal = any(_TEXT_PREFIX.match(name) for name in stored)
    found = {}
    for name in stored:
        plain = _TEXT_PREFIX.sub(lambda match: "" if match[0] == "language_model." else "model.", name)
        if not (_BUFFER.search(plain) or (multimodal and _NOT_TEXT.match(plain))):
            found[plain] = name
    required = required_tensors(table)
    missing = [name for name in required if name not in found]
    if missing:
        raise ValueError(f"tensors missing: {_some(missing)}")
    spare = {"lm_head.weight"} if config.tie_embeddings else set()
    unknown = [found[name] for name in found if name not in required and name not in spare]
    if unknown:
        raise ValueError(f"tensors that no parameter uses: {_some(unknown)}")
    return {name: found[name] for name in required}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def read_leaf(leaf: Leaf, read: ReadTensor, index: Index | None = None) -> np.ndarray:
    """The slice ``index`` of our array, by default all of it; ``read`` gives slices of published tensors."""
    index = (slice(None),) * len(leaf.shape) if index is None else index
    inner = index[1:] if leaf.stacked else index
    names = leaf.sources[index[0]] if leaf.stacked else leaf.sources
    tensors = [read(name, inner[::-1]).T if leaf.transpose else read(name, inner) for name in names]
    return np.stack(tensors) if leaf.stacked else tensors[0]


def write_leaf(leaf: Leaf, array: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (published name, contiguous tensor), the inverse of ``read_leaf``; a device array is fetched by layer.

    >>> leaf = Leaf((1, 2, 3), ("w",), stacked=True, transpose=True)
    >>> [(name, tensor.shape) for name, tensor in write_leaf(leaf, np.zeros((1, 2, 3)))]
    [('w', (3, 2))]
    """
    for layer, name in enumerate(leaf.sources):
        tensor = np.asarray(array[layer] if leaf.stacked else array)
        yield name, np.ascontiguousarray(tensor.T if leaf.transpose else tensor)
