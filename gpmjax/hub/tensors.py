"""Reads tensors of a Hugging Face directory by name and slice, on demand.

`Tensors` is the interface through which the rest of the package reads any file format; `gguf.py` implements the other
one.
"""

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
# Names of dtypes in safetensors. All are exact in float32 except F64, in which models are not saved on purpose.
READABLE = ("F32", "BF16", "F16", "F64")


class Tensors(Protocol):
    """Named tensors on disk, in the Hugging Face layout (linear weights are [out, in])."""

    label: str
    """File or directory, for messages."""
    files: tuple[Path, ...]
    """The files that the tensors are read from."""

    def names(self) -> list[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The slice ``index``, by default the whole tensor, in float32; only that slice is read."""
        ...


class SafetensorsTensors:
    """A directory with `model.safetensors`, or with shards and `model.safetensors.index.json`.

    Raises:
        FileNotFoundError: there are no weights, or a shard that the index names is missing.
        ValueError: a file is truncated or damaged, or a tensor is not in the shard that the index names.
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
        self._holder, holders, held = {}, {}, {}
        for name, file in zip(files, self.files, strict=True):
            if not file.is_file():
                raise FileNotFoundError(f"{directory}: shard {name}, named by {INDEX_FILE}, is missing")
            holders[name] = opened = _open(file)
            held[name] = dict.fromkeys(opened.keys(), opened)
            self._holder |= held[name]
        for tensor, name in weight_map.items():  # if two shards have a tensor of this name, the index decides
            if tensor not in held[name]:
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
    """Tensor → file; every file must be named inside the index's directory.

    The name may not lead out of the directory. A link may, since a hub's cache consists of links to files elsewhere.
    """
    weight_map = json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'{index}: not an index; must be a JSON object with a non-empty object "weight_map"')
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or "\0" in file:
            raise ValueError(
                f"{index}: weight_map[{shown(tensor)}]={shown(file)}: must be the name of a .safetensors file"
            )
        # PureWindowsPath knows both slashes, and drives.
        if PureWindowsPath(file).anchor or ".." in PureWindowsPath(file).parts:
            raise ValueError(
                f"{index}: weight_map[{shown(tensor)}]={shown(file)}: must be a file inside {index.parent}"
            )
    return weight_map


def _open(path: Path):
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged safetensors file ({one_line(error)})") from error
