"""Tensors of a Hugging Face directory, read by name and slice; nothing is read before it is asked for.

`Tensors` is all the rest of the package knows of a file format; `gguf.py` has the other one.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from gpmjax.checks import shown
from gpmjax.hub.json_files import json_object
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
        weight_map = _weight_map(index) if index.is_file() else {}
        if weight_map:
            files = sorted(set(weight_map.values()))
        elif single.is_file():
            files = [SINGLE_FILE]
        else:
            raise FileNotFoundError(f"{directory}: no weights, looked for {SINGLE_FILE} and {INDEX_FILE}")
        self.files = tuple(directory / name for name in files)
        self._holder, holders = {}, {}
        for name, file in zip(files, self.files, strict=True):
            if not file.is_file():
                raise FileNotFoundError(f"{directory}: shard {name}, named by {INDEX_FILE}, is missing")
            holders[name] = opened = _open(file)
            self._holder.update({tensor: opened for tensor in opened.keys()})
        for tensor, name in weight_map.items():  # where two shards hold one name, the index says which is meant
            if tensor not in holders[name].keys():
                raise ValueError(f"{index}: names {shown(tensor)}, which {name} does not hold")
            self._holder[tensor] = holders[name]
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
    """Tensor → file, each of which is named inside the index's own directory.

    A name may not lead out of the directory. A link may: a hub's cache is made of links to files elsewhere.
    """
    weight_map = json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f'{index}: not an index, looked for a JSON object with "weight_map", an object that is not empty'
        )
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or "\0" in file:
            raise ValueError(
                f"{index}: weight_map[{shown(tensor)}] is {shown(file)}; it must be the name of a .safetensors file"
            )
        if PureWindowsPath(file).anchor or ".." in re.split(
            r"[/\\]", file
        ):  # knows of both kinds of slash, and of drives
            raise ValueError(
                f"{index}: weight_map[{shown(tensor)}] is {shown(file)}; it must be a file inside {index.parent}"
            )
    return weight_map


def _open(path: Path):
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged safetensors file ({one_line(error)})") from error
