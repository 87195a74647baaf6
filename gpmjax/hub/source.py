"""Opens the source of a pretrained model: a directory, a GGUF file, the SmolLM2 package or a hub id."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax.hub.config_map import decoder_config, passed_over
from gpmjax.hub.fitting import fitting
from gpmjax.hub.gguf import open_gguf
from gpmjax.hub.json_files import json_object, member
from gpmjax.hub.lines import one_line
from gpmjax.hub.smollm2 import smollm2_path
from gpmjax.hub.tensors import Index, SafetensorsTensors, Tensors
from gpmjax.hub.tokenizer import directory_tokenizer
from gpmjax.models.config import DecoderConfig

CONFIG_FILE = "config.json"
DECLARATION = "gpmjax"
"""Key of config.json under which a preference model declares what its weights do not show."""

# Patterns of the files to download; other formats of the same weights are not needed.
_DOWNLOADED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


@dataclass(frozen=True)
class Source:
    """An opened model, whose weights are not read yet."""

    label: str
    """Directory, file or hub id, for messages."""
    config: DecoderConfig
    hf_config: Mapping[str, Any]
    """config.json, or an equivalent made from a GGUF file."""
    declared: Mapping[str, Any]
    """The fields of a PreferenceSpec that config.json declares; may be empty."""
    tensors: Tensors
    files: tuple[Path, ...]
    """The files with the weights and the config; a fingerprint of them identifies the model."""
    tokenizer: Callable[[], Any]
    """Builds the tokenizer; raises FileNotFoundError if there is none."""

    def names(self) -> list[str]:
        """Names of all tensors, in Hugging Face's naming."""
        return self.tensors.names()

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """A tensor, or a slice of it, in float32."""
        return self.tensors.read(name, index)


def open_source(source: str) -> Source:
    """Opens "smollm2", a model directory, a `.gguf` file, or a hub id (`organisation/name`, `…@revision`).

    Raises:
        FileNotFoundError: there is no such model, or a file of it is missing.
        ValueError: a file is damaged, or has an attribute or value that this package does not support.
    """
    if source == "smollm2":
        return _from_gguf(smollm2_path())
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        return _from_gguf(path)
    if path.is_dir():
        return _from_directory(path, source)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", source) and not path.exists():
        return _from_directory(_download(source), source)
    raise FileNotFoundError(f'{source}: no model, looked for a directory, a .gguf file, a hub id and "smollm2"')


def load_tokenizer(source: str):
    """The tokenizer of any source: a transformers `PreTrainedTokenizerFast` with chat template and special tokens.

    The source may be a directory with a tokenizer alone. Raises the errors of `open_source`.
    """
    path = Path(source).expanduser()
    return directory_tokenizer(path) if path.is_dir() else open_source(source).tokenizer()


def tokenizer_for(source: Source, named: str = ""):
    """The tokenizer of the source ``named``, or if that is empty the model's own.

    Raises:
        ValueError: the tokenizer does not fit the model.
    """
    if not named:
        return source.tokenizer()
    return fitting(load_tokenizer(named), source.config.vocab_size, f"{source.label} with tokenizer {named}")


def _from_gguf(path: Path) -> Source:
    tensors = open_gguf(path)
    try:
        config = decoder_config(tensors.hf_config)
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error
    return Source(
        label=str(path),
        config=config,
        hf_config=tensors.hf_config,
        declared={},
        tensors=tensors,
        files=tensors.files,
        tokenizer=lambda: fitting(tensors.tokenizer(), config.vocab_size, str(path)),
    )


def _from_directory(directory: Path, label: str) -> Source:
    file = directory / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{label}: not a model directory, looked for {CONFIG_FILE}")
    hf_config = json_object(file)
    declared = member(hf_config, DECLARATION, file)
    try:
        config = decoder_config({key: value for key, value in hf_config.items() if key != DECLARATION})
    except ValueError as error:
        raise ValueError(f"{file}: {one_line(error)}") from error
    if extras := passed_over(hf_config):
        logging.warning("%s: attributes without effect on the forward pass are not read: %s", file, ", ".join(extras))
    tensors = SafetensorsTensors(directory)
    return Source(
        label=label,
        config=config,
        hf_config=hf_config,
        declared=declared,
        tensors=tensors,
        files=(file, *tensors.files),
        tokenizer=lambda: fitting(directory_tokenizer(directory), config.vocab_size, label),
    )


def _download(source: str) -> Path:
    # Imported here, so that local work does not wait for an HTTP client to load.
    from huggingface_hub import snapshot_download

    repository, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_DOWNLOADED)))
    except (OSError, ValueError) as error:  # all of huggingface_hub's errors are one of the two
        raise FileNotFoundError(
            f"{source}: no such directory, and it cannot be downloaded from the hub ({one_line(error)})"
        ) from error
