"""Tensors and metadata of a GGUF file, under Hugging Face names and in Hugging Face layout.

Two things differ from the checkpoint that a file was converted from, and are undone here: for Llama's architecture the rows
of q and k are reordered (llama.cpp rotates neighbouring pairs, Hugging Face the two halves of a head), and Gemma's norm
weights have their 1 added.
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

ROPE_FACTORS = "rope_freqs.weight"  # read with the config, no parameter

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Gemma 2 and 3 normalise what goes into the MLP apart from what comes out of attention; the others only the former.
_ONE_NORM = {"ffn_norm": "post_attention_layernorm"}
_THREE_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def open_gguf(path: Path) -> "GgufTensors":
    """Opens a file, or returns it when it is already open and unchanged: reading the vocabulary takes seconds."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return _opened(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _opened(path: Path, modified: int) -> "GgufTensors":
    return GgufTensors(path)


class GgufTensors:
    """A GGUF file. Names that no Hugging Face model has are passed on as they are, so that the import refuses them.

    Raises:
        ValueError: truncated or damaged, or a model or tensor type that is not known here.
    """

    def __init__(self, path: Path):
        self.label = str(path)
        self.files = (path,)
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
        layer = _IN_LAYER | (_THREE_NORMS if self._architecture in ("gemma2", "gemma3") else _ONE_NORM)
        self._tensors = {_hf_name(name, layer): tensor for name, tensor in by_name.items()}

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
            # Rows are quantised apart, so only those asked for are dequantised.
            values = _values(self._tensors[name], self.label, self._rows(name)[index[0]])[:, index[1]]
        if self._architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values - np.float32(1)
        return values

    def tokenizer(self):
        return gguf_tokenizer(self.metadata, self.label)

    def _rows(self, name: str) -> np.ndarray:
        """Row of the file that holds each row of the Hugging Face tensor."""
        rows = np.arange(self.shape(name)[0])
        if self._architecture != "llama" or not re.search(r"\.[qk]_proj\.", name):
            return rows
        half = self.hf_config["head_dim"] // 2
        return rows.reshape(-1, half, 2).swapaxes(1, 2).reshape(-1)


def _hf_name(name: str, layer_names: dict[str, str]) -> str:
    """
    >>> _hf_name("blk.3.attn_q.weight", _IN_LAYER)
    'model.layers.3.self_attn.q_proj.weight'
    """
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, stem, kind = match.groups()
        return f"model.layers.{layer}.{layer_names[stem]}.{kind}" if stem in layer_names else name
    stem, _, kind = name.rpartition(".")
    return f"{_TOP[stem]}.{kind}" if stem in _TOP else name


def _values(tensor: gguf.ReaderTensor, label: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Float32 values of some rows."""
    try:
        values = gguf.dequantize(tensor.data[rows], tensor.tensor_type)
    except NotImplementedError as error:
        raise ValueError(
            f"{label}: tensor {tensor.name} has type {tensor.tensor_type.name}, which gguf cannot dequantise"
        ) from error
    return np.asarray(values, np.float32)
