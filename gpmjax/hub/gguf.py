"""Tensors and metadata of a GGUF file, under Hugging Face names and in Hugging Face layout.

A GGUF file differs from its original checkpoint in two ways, which are undone here. For Llama's architecture the rows
of q and k are reordered: llama.cpp rotates neighbouring pairs, Hugging Face the two halves of a head. Gemma's norm
weights have 1 added.
"""

import functools
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gpmjax.hub.gguf_config import gguf_hf_config
from gpmjax.hub.lines import one_line
from gpmjax.hub.tensors import Index
from gpmjax.hub.tokenizer import gguf_tokenizer

ROPE_FACTORS = "rope_freqs.weight"  # part of the config, not a parameter

_LAYER_PARTS = (
    *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    *(f"{part}_layernorm" for part in ("input", "post_attention", "pre_feedforward", "post_feedforward")),
)


def open_gguf(path: Path) -> "GgufTensors":
    """Opens a file. An unchanged file is opened only once, since reading the vocabulary takes seconds."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return _opened(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _opened(path: Path, modified: int) -> "GgufTensors":
    return GgufTensors(path)


class GgufTensors:
    """A GGUF file. Tensors without a Hugging Face name keep their own, so that the import refuses them.

    Raises:
        ValueError: the file is truncated or damaged, or its model or tensor type is unknown.
    """

    def __init__(self, path: Path):
        self.label = str(path)
        self.files: tuple[Path, ...] = (path,)
        try:
            reader = gguf.GGUFReader(path)
            self.metadata: dict[str, Any] = {key: field.contents() for key, field in reader.fields.items()}
        except (ValueError, LookupError, OverflowError, TypeError, MemoryError) as error:
            raise ValueError(f"{path}: truncated or damaged GGUF file ({one_line(error)})") from error
        by_name = {tensor.name: tensor for tensor in reader.tensors}
        factors = by_name.pop(ROPE_FACTORS, None)
        self.hf_config = gguf_hf_config(
            self.metadata,
            self.label,
            tied="output.weight" not in by_name,
            rope_factors=None if factors is None else _values(factors, self.label),
        )
        self._architecture = self.metadata["general.architecture"]
        stems = _hf_stems(self._architecture, self.hf_config["num_hidden_layers"])
        split = {name: name.rpartition(".") for name in by_name}
        self._tensors = {
            f"{stems[stem]}.{kind}" if stem in stems else name: by_name[name] for name, (stem, _, kind) in split.items()
        }

    def names(self) -> list[str]:
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        index = index or (slice(None),) * len(self.shape(name))
        if len(index) == 1:
            values = _values(self._tensors[name], self.label)
            values = values[self._rows(name)][index[0]]
        else:
            # Each row is quantised by itself, so only the requested rows are dequantised.
            values = _values(self._tensors[name], self.label, self._rows(name)[index[0]])[:, index[1]]
        if self._architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values - np.float32(1)
        return values

    def tokenizer(self):
        return gguf_tokenizer(self.metadata, self.label)

    def _rows(self, name: str) -> np.ndarray:
        """The file's row of each row of the Hugging Face tensor."""
        rows = np.arange(self.shape(name)[0])
        if self._architecture != "llama" or not re.search(r"\.[qk]_proj\.", name):
            return rows
        half = self.hf_config["head_dim"] // 2
        return rows.reshape(-1, half, 2).swapaxes(1, 2).reshape(-1)


def _hf_stems(architecture: str, layers: int) -> dict[str, str]:
    """Maps GGUF's tensor names to Hugging Face's, without ".weight" or ".bias", by the table of llama.cpp's converter.

    >>> _hf_stems("llama", 1)["blk.0.ffn_norm"], _hf_stems("gemma2", 1)["blk.0.ffn_norm"]
    ('model.layers.0.post_attention_layernorm', 'model.layers.0.pre_feedforward_layernorm')
    """
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], layers)
    in_layers = (f"model.layers.{layer}.{part}" for layer in range(layers) for part in _LAYER_PARTS)
    stems = ("model.embed_tokens", "model.norm", "lm_head", *in_layers)
    return {name: stem for stem in stems if (name := known.get_name(stem))}


def _values(tensor: gguf.ReaderTensor, label: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Float32 values of some rows."""
    try:
        values = gguf.dequantize(tensor.data[rows], tensor.tensor_type)
    except NotImplementedError as error:
        raise ValueError(
            f"{label}: tensor {tensor.name} has type {tensor.tensor_type.name}, which gguf cannot dequantise"
        ) from error
    return np.asarray(values, np.float32)
