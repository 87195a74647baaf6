"""Safetensors directories are read by slice, and each kind of damage is named in one line."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from gpmjax.hub.tensors import SafetensorsTensors

TABLE = np.arange(24, dtype=np.float32).reshape(4, 6)


def write_sharded(directory, **extra):
    save_file({"a": TABLE}, directory / "one.safetensors")
    save_file({"b": TABLE + 1}, directory / "two.safetensors")
    weight_map = {"a": "one.safetensors", "b": "two.safetensors"} | extra
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_slices_equal_slices_of_the_whole(tmp_path):
    saved = {"a": TABLE, "b": TABLE.astype(ml_dtypes.bfloat16), "c": np.array(7, np.float32)}
    save_file(saved, tmp_path / "model.safetensors")
    tensors = SafetensorsTensors(tmp_path)
    assert tensors.names() == ["a", "b", "c"]
    assert tensors.shape("b") == (4, 6) and tensors.shape("c") == ()
    index = (slice(1, 3), slice(2, None))
    for name in ("a", "b"):
        part = tensors.read(name, index)
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, TABLE[index])
    assert tensors.read("c") == 7


def test_shards_form_one_model(tmp_path):
    write_sharded(tmp_path)
    np.testing.assert_array_equal(SafetensorsTensors(tmp_path).read("b"), TABLE + 1)


def test_missing_weights_name_the_files_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no weights, looked for model.safetensors and model.safetensors.index.json"
    ):
        SafetensorsTensors(tmp_path)


def test_missing_shard_is_named(tmp_path):
    write_sharded(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"shard two.safetensors, named by model.safetensors.index.json, is missing"
    ):
        SafetensorsTensors(tmp_path)


def test_an_index_that_names_a_missing_tensor(tmp_path):
    write_sharded(tmp_path, ghost="one.safetensors")
    with pytest.raises(ValueError, match="names 'ghost', which one.safetensors does not hold"):
        SafetensorsTensors(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 40, -8])
def test_truncated_file(tmp_path, kept):
    file = tmp_path / "model.safetensors"
    save_file({"a": TABLE}, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model.safetensors: truncated or damaged safetensors file \(.*\)$"):
        SafetensorsTensors(tmp_path)


def test_unknown_dtype_is_named(tmp_path):
    save_file({"a": TABLE.astype(np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="tensor a has dtype I8; allowed: F32, BF16, F16, F64"):
        SafetensorsTensors(tmp_path)
