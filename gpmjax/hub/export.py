"""Writes preference models and decoders to Hugging Face directories.

A preference model has two forms. Native keeps everything; a sequence classifier can be opened by programs that know
nothing of this package:

    native                   a causal LM + value_head (+ prompt_head), with the declaration in config.json
    sequence_classification  Bradley–Terry: score [1, D], num_labels 1; logits are rewards
                             embeddings: score [2k, D], num_labels 2k; logits are v before it is normalised
                             hybrid: score [1 + 2k, D], num_labels 1 + 2k; logits are r, then c before it is normalised
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gpmjax.files import replacing_directory
from gpmjax.hub.config_map import hf_config
from gpmjax.hub.declaration import LOG_TAU
from gpmjax.hub.fitting import fitting
from gpmjax.hub.lines import one_line
from gpmjax.hub.param_map import Leaf, decoder_leaves, leaves, required_tensors, write_leaf
from gpmjax.hub.source import CONFIG_FILE, DECLARATION
from gpmjax.hub.tensors import INDEX_FILE, SINGLE_FILE
from gpmjax.hub.tokenizer import with_own_pad
from gpmjax.hub.tokenizer_files import read_at_eos, with_own_template, write_tokenizer
from gpmjax.models.config import DecoderConfig, LoRA, require_one_of
from gpmjax.models.spec import PreferenceSpec

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.md")
"""Patterns of the files in a model directory; a directory with any other file is not replaced."""

FORMS = ("native", "sequence_classification")
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
SHARD_BYTES = 5 * 10**9


def save_preference_model(
    directory: str | Path,
    params: Mapping[str, Any],
    config: DecoderConfig,
    spec: PreferenceSpec,
    tokenizer: Any,
    form: str = "native",
    *,
    lora: LoRA | None = None,
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model directory that this package and transformers can open. On any failure nothing is written.

    Every process of a multi-host run must call this; the first process writes. In the saved chat template finished
    replies end at EOS, where the model is read; the tokenizer's own template is saved beside it
    (gpmjax.hub.tokenizer_files).

    Args:
        directory: a new or empty directory, or an earlier export, which is replaced.
        params: {"decoder": …, "heads": …}; LoRA factors are merged into their kernels.
        form: "native" or "sequence_classification", see above.
        lora: the setting that the LoRA factors in ``params`` were trained with.
        dtype: dtype of the saved tensors; float32 keeps scores bit for bit.
        shard_bytes: limit of a file; larger weights are split into several files and an index.

    Raises:
        ValueError: ``form`` or ``dtype`` is unknown, or the model cannot be written in this form.
        OSError: the directory cannot be written; an earlier one is unchanged.
    """
    require_one_of("form", form, FORMS)
    require_one_of("dtype", dtype, tuple(DTYPES))
    flat = flatten_dict(params, sep="/")
    table = leaves(config, spec.validate(), form)
    learned: dict[str, float] = {}
    expected = set(table) | ({f"heads/{LOG_TAU}"} if spec.tau_mode == "learned" else set())
    _check_params(flat, table, expected, lora, form)
    if spec.tau_mode == "learned":
        learned = {LOG_TAU: float(np.asarray(flat[f"heads/{LOG_TAU}"]))}
        spec = dataclasses.replace(spec, tau=float(np.exp(learned[LOG_TAU])))
    tokenizer = with_own_pad(tokenizer, config.vocab_size) if form == "sequence_classification" else tokenizer
    if not spec.question:  # a question is not a reply; it ends where its answer would begin
        tokenizer = read_at_eos(tokenizer, spec.bos_tokens)
    declared = spec.to_dict() | learned
    described = _config_json(config, spec, tokenizer, form, dtype) | {DECLARATION: declared}
    _write_model(Path(directory), _tensors(flat, table, lora, DTYPES[dtype]), table, described, tokenizer, shard_bytes)


def save_decoder(
    directory: str | Path,
    params: Mapping[str, Any],
    config: DecoderConfig,
    tokenizer: Any,
    *,
    lora: LoRA | None = None,
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a causal language model, such as a policy. The other arguments are those of ``save_preference_model``.

    Args:
        params: {"decoder": …}; LoRA factors are merged into their kernels.

    Raises:
        ValueError: the parameters are not those of this decoder.
        OSError: the directory cannot be written; an earlier one is unchanged.
    """
    require_one_of("dtype", dtype, tuple(DTYPES))
    flat = flatten_dict(params, sep="/")
    table = {f"decoder/{path}": leaf for path, leaf in decoder_leaves(config).items()}
    _check_params(flat, table, set(table), lora, "causal_lm")
    tokenizer = with_own_template(tokenizer)
    described = _config_json(config, None, tokenizer, "native", dtype)
    _write_model(Path(directory), _tensors(flat, table, lora, DTYPES[dtype]), table, described, tokenizer, shard_bytes)


def _write_model(
    directory: Path,
    tensors: Iterator[tuple[str, np.ndarray]],
    table: Mapping[str, Leaf],
    described: dict[str, Any],
    tokenizer: Any,
    shard_bytes: int,
) -> None:
    itemsize = DTYPES[described["dtype"]].itemsize
    plan = _shards(required_tensors(table), itemsize, shard_bytes)
    if jax.process_index() != 0:
        for _ in tensors:  # every process must take part in gathering the tensors
            pass
    else:
        with replacing_directory(directory, MODEL_FILES) as fresh:
            _write_shards(fresh, tensors, plan)
            write_tokenizer(fresh, tokenizer)
            (fresh / CONFIG_FILE).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("save_model")


def _check_params(flat: Mapping[str, Any], table: Mapping[str, Leaf], expected: set[str], lora: LoRA | None, form: str):
    """Raises ValueError if parameters are missing, unknown, or of another shape than the table says."""
    factors = {path for path in flat if path.endswith(("/lora_a", "/lora_b"))}
    if factors and lora is None:
        raise ValueError(f"params hold LoRA factors ({min(factors)}); pass lora, the setting they were trained with")
    if "decoder/lm_head/kernel" in expected - set(flat):
        raise ValueError(f"params hold no lm_head, which form {form!r} needs; allowed: 'sequence_classification'")
    spare = factors | {"decoder/lm_head/kernel"}  # a classifier does not use it
    for complaint, paths in (("lack", expected - set(flat)), ("hold an unknown", set(flat) - expected - spare)):
        if paths:
            raise ValueError(f"params {complaint} {min(paths)}")
    for path, leaf in table.items():
        if flat[path].shape != leaf.shape:
            raise ValueError(f"params: {path} has shape {flat[path].shape}, the config asks for {leaf.shape}")


def _config_json(
    config: DecoderConfig, spec: PreferenceSpec | None, tokenizer: Any, form: str, dtype: str
) -> dict[str, Any]:
    fitting(tokenizer, config.vocab_size, "not exported")
    described = hf_config(config, "causal_lm" if form == "native" else "sequence_classification")
    described |= {"dtype": dtype, "torch_dtype": dtype}  # the names in transformers 5 and, until 4.55, in 4
    for role in ("bos", "eos", "pad"):
        number = getattr(tokenizer, f"{role}_token_id")
        # transformers looks up the padding token's embedding, and fails if the id is beyond the embedding.
        described[f"{role}_token_id"] = None if number is None or number >= config.vocab_size else number
    if spec is not None and (spec.reward_mean, spec.reward_std) != (0, 1):
        described |= {"mean": spec.reward_mean, "std": spec.reward_std}  # OpenRLHF's names
    if spec is not None and form == "sequence_classification":
        labels = ["reward"] * (spec.kind == "hybrid") + [f"v{place}" for place in range(spec.dim)]
        labels = ["reward"] if spec.dim == 1 else labels
        described["id2label"] = {str(place): label for place, label in enumerate(labels)}
        described["label2id"] = {label: place for place, label in enumerate(labels)}
    return described


class _Fetched:
    """An array for ``write_leaf``, read whole or by layer, gathered from all hosts, LoRA merged: W + (α/r) A B."""

    def __init__(self, flat: Mapping[str, Any], path: str, lora: LoRA | None):
        stem = path.removesuffix("kernel")
        self._kernel = flat[path]
        self._factors = [flat[stem + name] for name in ("lora_a", "lora_b")] if f"{stem}lora_a" in flat else None
        self._scale = 0.0 if lora is None else lora.alpha / lora.rank

    def __getitem__(self, layer: int) -> np.ndarray:
        kernel = _on_host(self._kernel[layer])
        if self._factors is None:
            return kernel
        a, b = (_on_host(factor[layer]).astype(np.float32) for factor in self._factors)
        return kernel + np.float32(self._scale) * (a @ b)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return _on_host(self._kernel)


def _on_host(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def _tensors(
    flat: Mapping[str, Any], table: Mapping[str, Leaf], lora: LoRA | None, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in table.items():
        for name, tensor in write_leaf(leaf, _Fetched(flat, path, lora)):
            yield name, tensor.astype(dtype)


def _shards(shapes: Mapping[str, tuple[int, ...]], itemsize: int, limit: int) -> dict[str, list[str]]:
    """File → names of its tensors, in order. A file has at most ``limit`` bytes, unless it has one larger tensor.

    >>> _shards({"a": (2,), "b": (2,)}, 4, 8)
    {'model-00001-of-00002.safetensors': ['a'], 'model-00002-of-00002.safetensors': ['b']}
    """
    groups, used = [[]], 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * itemsize
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    if len(groups) == 1:
        return {SINGLE_FILE: groups[0]}
    return {f"model-{n:05}-of-{len(groups):05}.safetensors": names for n, names in enumerate(groups, start=1)}


def _write_shards(directory: Path, tensors: Iterator[tuple[str, np.ndarray]], plan: Mapping[str, list[str]]) -> None:
    """Writes tensors, which must come in the plan's order; holds those of one file in memory at a time."""
    total = 0
    for file, names in plan.items():
        shard = dict(itertools.islice(tensors, len(names)))
        total += sum(tensor.nbytes for tensor in shard.values())
        try:
            save_file(shard, directory / file, metadata={"format": "pt"})
        except SafetensorError as error:  # raised when the disk is full
            raise OSError(f"{file}: {one_line(error)}") from error
        (directory / file).chmod(0o644)  # the library makes files that only their owner can read
    if len(plan) > 1:
        weight_map = {name: file for file, names in plan.items() for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
