"""Tensors of a Hugging Face directory, read by name and slice; nothing is read before it is asked for.

`Tensors` is all the rest of the package knows of a file format; `gguf.py` has the other one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from gpmjax.hub.lines import one_line

Index = tuple[slice, ...]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Names are those of the safetensors format. All are exact in float32 but F64, which models are not saved in by intent.
READABLE = ("F32", "BF16", "F16", "F64")


class Tensors(Protocol):
    """Named tensors somewhere on disk, in the Hugging Face layout (linear weights are [out, in])."""

    label: str
    """File or directory, for messages."""
    files: tuple[Path, ...]
    """What the tensors are read from."""

    def names(self) -> list[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The slice ``index`` (all of it by default) in float32; only that slice is read."""
        ...


class SafetensorsTensors:
    """A directory with `model.safetensors`, or with shards and `model.safetensors.index.json`.

    Raises:
        FileNotFoundError: no weights, or a shard that the index names is missing.
        ValueError: a file is truncated or damaged, or a tensor is not where the index says.
    """

    def __init__(self, directory: Path):
        self.label = str(directory)
        index = directory / INDEX_FILE
        single = directory / SINGLE_FILE
        if index.is_file():
            files = sorted(set(_weight_map(index).values()))
        elif single.is_file():
            files = [SINGLE_FILE]
        else:
            raise FileNotFoundError(f"{directory}: no weights, looked for {SINGLE_FILE} and {INDEX_FILE}")
        self.files = tuple(directory / name for name in files)
        self._holder = {}
        for file in self.files:
            if not file.is_file():
                raise FileNotFoundError(f"{directory}: shard {file.name}, named by {INDEX_FILE}, is missing")
            opened = _open(file)
            self._holder.update({tensor: opened for tensor in opened.keys()})
        if index.is_file():
            absent = [tensor for tensor in _weight_map(index) if tensor not in self._holder]
            if absent:
                raise ValueError(f"{index}: names {absent[0]}, which no shard holds")
        for tensor in self._holder:
            self._check_dtype(tensor)

    def names(self) -> list[str]:
        return sorted(self._holder)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._holder[name].get_slice(name).get_shape())

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        if not self.shape(name):
            return np.asarray(self._holder[name].get_tensor(name), np.float32)
        return np.asarray(self._holder[name].get_slice(name)[index or (slice(None),)], np.float32)

    def _check_dtype(self, name: str) -> None:
        dtype = self._holder[name].get_slice(name).get_dtype()
        if dtype not in READABLE:
            raise ValueError(f"{self.label}: tensor {name} has dtype {dtype}; allowed: {', '.join(READABLE)}")


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        return json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'{index}: not an index, looked for a JSON object with "weight_map"') from error


def _open(path: Path):
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged safetensors file ({one_line(error)})") from error
